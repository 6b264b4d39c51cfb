"""How long a diagnosis takes: ours, the same reads by warm boto3 one after another, the document's own commands."""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

from dev.controlplane.kubectl import Kubectl
from dev.shop.alarm import wait_until_felt
from dev.shop.examples import examples
from dev.shop.faults import FAULTS
from dev.shop.shop import Shop, load
from dev.stack import SHOP_LABELS, Stack
from incident_operator.api.meta import parse_instant

from . import baseline
from .baseline import BaselineError
from .figures import Figure, ratio
from .place import TIME_SCALE, Operator, Place, a_namespace

__all__ = ["LATENCIES", "BaselineError", "measure"]

#: 40 ms is the order of real AWS; without latency what is left is our own work and the simulator's.
LATENCIES = ("40ms", "0ms")
#: What is asked of a diagnosis where each read takes as long as with real AWS.
OF_SEQUENTIAL, OF_DOCUMENT = 0.5, 0.1
FAULT = FAULTS["inc-2023-1247"]
CAUSE = "RoleLacksPermission"


def measure(place: Place, rounds: int, latencies: Sequence[str]) -> list[Figure]:
    """Return the figures of every latency."""
    program = baseline.command_line(place.say)
    figures: list[Figure] = []
    for latency in latencies:
        # A simulator with another latency is another simulator: the shop is seeded anew.
        place.end("aws")
        stack = place.stack(shop=True, latency=latency)
        shop = load(stack.state_dir)
        place.say(f"diagnosis at {latency}: breaking {shop.function} ({FAULT.name}), waiting until customers fail")
        FAULT.break_(shop)
        if not wait_until_felt(shop, time_scale=TIME_SCALE):
            raise BaselineError(f"no customer failed within a minute of {FAULT.name}")
        wrapper = baseline.write_wrapper(place.state / "bin", program, shop.endpoint)
        targets = (None, None) if latency == "0ms" else (OF_SEQUENTIAL, OF_DOCUMENT)
        samples = _rounds(place, latency, stack, shop, rounds, lambda: baseline.run_document(stack, shop, wrapper))  # noqa: B023 (called at once)
        figures += _figures(latency, samples, *targets)
    return figures


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Seconds of each contender, and how many reads a diagnosis made; one value a round."""

    ours: list[float] = field(default_factory=list)
    sequential: list[float] = field(default_factory=list)
    document: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


def _figures(latency: str, samples: Samples, sequential: float | None, document: float | None) -> list[Figure]:
    at = f"{latency} latency"
    return [
        Figure(name=f"diagnosis, {at}: the run", unit="s", samples=samples.ours),
        Figure(name=f"diagnosis, {at}: its reads", unit="calls", samples=samples.reads),
        Figure(name=f"diagnosis, {at}: same reads, warm boto3", unit="s", samples=samples.sequential),
        Figure(name=f"diagnosis, {at}: document's commands", unit="s", samples=samples.document),
        ratio(f"diagnosis, {at}: run / boto3", samples.ours, samples.sequential, limit=sequential),
        ratio(f"diagnosis, {at}: run / document", samples.ours, samples.document, limit=document),
    ]


def _rounds(
    place: Place, latency: str, stack: Stack, shop: Shop, rounds: int, run_document: Callable[[], None]
) -> Samples:
    """Let the three take turns, each after a first try that is not counted."""
    namespace = a_namespace(stack, SHOP_LABELS)
    journal, replay, samples = Journal(stack, shop), Replay(shop), Samples()
    with Operator(stack, namespace) as operator:
        operator.leading()
        diagnose(stack, namespace, "warm-up")
        journal.news()
        run_document()
        asked = {call["operation"] for call in journal.news()}
        if not asked >= baseline.ASKED:
            raise BaselineError(f"the document's commands did not ask {sorted(baseline.ASKED - asked)}")
        for number in range(rounds):
            place.say(f"diagnosis at {latency}: round {number + 1} of {rounds}")
            journal.news()
            samples.ours.append(diagnose(stack, namespace, f"round-{number}"))
            reads = [call for call in journal.news() if call["principal"].endswith("/incident-operator-read")]
            samples.reads.append(len(reads))
            if number == 0:
                replay.ask(reads)
            samples.sequential.append(_seconds(lambda: replay.ask(reads)))  # noqa: B023 (called at once)
            samples.document.append(_seconds(run_document))
    return samples


def _seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def diagnose(stack: Stack, namespace: str, name: str) -> float:
    """Apply an observe-only run; return the seconds from its start to its diagnosis, by its own status.

    Errors: BaselineError where it did not find the cause: a wrong answer has no time.
    """
    manifest = json.loads(json.dumps(examples()[FAULT.example].manifest))
    manifest["metadata"] = {"name": name, "namespace": namespace}
    manifest["spec"]["automation"] = {"applyUpTo": "None", "askUpTo": "None"}
    admin = Kubectl(stack.kubeconfig())
    admin.run("apply", "-f", "-", stdin=json.dumps(manifest))
    admin.run("wait", f"incidentrun/{name}", "-n", namespace, "--for=condition=Finished", "--timeout=60s")
    status = admin.json("get", "incidentrun", name, "-n", namespace)["status"]
    found = {finding["reason"] for finding in status.get("findings", ())}
    if CAUSE not in found or status["diagnosis"] != 1:
        raise BaselineError(f"the diagnosis found {sorted(found)}, not {CAUSE}")
    return (parse_instant(status["diagnosedAt"]) - parse_instant(status["startedAt"])).total_seconds()


class Journal:
    """The simulator's journal of the shop's account, read on from where it was read last."""

    def __init__(self, stack: Stack, shop: Shop) -> None:
        self._url = f"{stack.aws_endpoint}/_sim/journal?account={shop.account}"
        self._after = 0

    def news(self) -> list[dict[str, Any]]:
        """Return the calls since the last look."""
        with urllib.request.urlopen(f"{self._url}&after={self._after}") as answer:  # noqa: S310
            calls = list(json.load(answer)["calls"])
        self._after = max((call["sequence"] for call in calls), default=self._after)
        return calls


class Replay:
    """Journalled reads made again, one after another, by clients that are kept."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._session = boto3.session.Session()
        self._clients: dict[tuple[str, str], Any] = {}

    def ask(self, reads: Sequence[Mapping[str, Any]]) -> None:
        """Make the reads. Errors: BaselineError where one ends otherwise than it did."""
        for read in reads:
            client = self._client(read["service"], read["region"])
            try:
                getattr(client, xform_name(read["operation"]))(**read["arguments"])
                outcome = "OK"
            except ClientError as error:  # "there is none" is an answer too, as long and as good
                outcome = str(error.response["Error"]["Code"])
            if (outcome == "OK") != (read["outcome"] == "OK"):
                raise BaselineError(f"{read['service']}.{read['operation']}: {outcome}, not {read['outcome']}")

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._clients:
            key = self._shop.keys["admin"]
            self._clients[service, region] = self._session.client(  # type: ignore[call-overload]
                service,
                region_name=region,
                endpoint_url=self._shop.endpoint,
                aws_access_key_id=key.access_key_id,
                aws_secret_access_key=key.secret_access_key,
            )
        return self._clients[service, region]
