"""What the API server is told of Events, and what of its answers stays in memory: against a real HTTP server."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from dev.loopback import address, free_ports
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube

ABOUT = {"kind": "IncidentRun", "metadata": {"name": "one", "namespace": "shop", "uid": "u-1"}}


class Server:
    """Notes what it is asked, and answers each time with strings that it never sent before."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._answers = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.asked.put_nowait((request.method, await request.json() if request.can_read_body else None))
        self._answers += 1
        return web.json_response({"items": [f"answer {self._answers}, string {n}" for n in range(100)]})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Kube]]:
    """Yield a server and a client of it."""
    server, application = Server(), web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner, (port,) = web.AppRunner(application), free_ports(address(), 1)
    await runner.setup()
    await web.TCPSite(runner, address(), port).start()
    kube = Kube(client.ApiClient(client.Configuration(host=f"http://{address()}:{port}")), Clock())
    yield server, kube
    await kube.close()
    await runner.cleanup()


async def test_the_same_words_about_an_object_raise_a_count_until_it_has_ended(server: tuple[Server, Kube]) -> None:
    """Of what has ended nothing is remembered."""
    there, kube = server
    posting = asyncio.create_task(kube.post_events())
    kube.post_event(ABOUT, "Started", "it began")
    kube.post_event(ABOUT, "Started", "it began")
    kube.post_no_more("u-1")
    kube.post_event(ABOUT, "Started", "it began")
    asked = [await there.asked.get() for _ in range(3)]
    posting.cancel()
    assert [(method, body["count"]) for method, body in asked] == [("POST", 1), ("PATCH", 2), ("POST", 1)]


async def test_past_answers_leave_no_strings_in_memory(server: tuple[Server, Kube]) -> None:
    """What is kept of each answer lies among what others need, and keeps their memory from being given back."""
    _, kube = server
    await kube.request("GET", "/warm")
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(50):
        await kube.request("GET", "/again")
    gc.collect()
    assert sys.getallocatedblocks() - before < 2500  # 5,000 strings were read
