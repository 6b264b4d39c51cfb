"""Receivers of messages on this machine: Slack, PagerDuty, a webhook, a status page, and a mail server.

They speak the providers' own protocols as far as the operator does: credentials and signatures are checked, messages
have ids, and an update needs the message it updates. Each keeps what it got, and can be down, slow, answer 429 or 500,
or take a message and lose the answer. They also make the signed hooks that Slack and PagerDuty would send back.
"""

import asyncio
import contextlib
import email.message
import email.policy
import hashlib
import hmac
import json
import logging
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dev.loopback import address

Answer = TypeVar("Answer")


class Mood(StrEnum):
    """How a receiver behaves."""

    UP = "up"
    #: Nobody listens.
    DOWN = "down"
    #: The message is taken, and the answer comes so many seconds later.
    SLOW = "slow"
    #: Not taken: 429 with Retry-After over HTTP, 451 over SMTP.
    THROTTLED = "throttled"
    #: Not taken: 500 over HTTP, 421 over SMTP.
    FAILED = "failed"
    #: The message is taken, and the connection breaks before the answer.
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request, or one mail: what was taken, also where the answer was lost."""

    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)

    @property
    def mail(self) -> email.message.EmailMessage:
        """The body as a mail."""
        return email.message_from_bytes(self.body, _class=email.message.EmailMessage, policy=email.policy.SMTP)


@dataclass(frozen=True, kw_only=True)
class Hook:
    """What a provider posts to the operator: exactly these bytes are signed."""

    headers: Mapping[str, str]
    body: bytes


class Receiver(ABC):
    """One receiver. Its methods are for other threads; what it got is in `received`, in order."""

    #: The channel's type, as an EscalationPolicy calls it.
    type = ""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        self._loop, self.host, self.port = loop, host, 0
        self.mood, self.seconds, self.retry_after = Mood.UP, 0.0, "1"
        self._moody: int | None = None
        self._method = ""
        self.received: list[Received] = []

    def be(
        self,
        mood: Mood,
        *,
        times: int | None = None,
        method: str = "",
        seconds: float = 30.0,
        retry_after: str = "1",
    ) -> None:
        """Be like that from now on, or for so many messages, or for those of one method of HTTP.

        Units: seconds of SLOW; Retry-After as it is sent.
        """
        self._moody, self._method = times, method
        self.seconds, self.retry_after = seconds, retry_after
        self._do(self._be(mood))

    async def _be(self, mood: Mood) -> None:
        was, self.mood = self.mood, mood
        if mood == Mood.DOWN and was != Mood.DOWN:
            await self.stop()
        elif was == Mood.DOWN and mood != Mood.DOWN:
            await self.start()

    def _felt(self, method: str = "") -> Mood:
        """Return how to behave towards one message more."""
        if self._method not in ("", method):
            return Mood.UP
        mood = self.mood
        if self._moody is not None:
            self._moody -= 1
            if self._moody <= 0:
                self.mood, self._moody = Mood.UP, None
        return mood

    def _do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @abstractmethod
    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds to reach this receiver."""

    @abstractmethod
    async def start(self) -> None:
        """Listen; after the first time on the port of before."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop listening."""


class HttpReceiver(Receiver):
    """A receiver over HTTP."""

    #: Where the API begins on the receiver.
    base = ""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What a Secret's `url` says to reach this instead of the provider."""
        return f"http://{self.host}:{self.port}{self.base}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def stop(self) -> None:
        """Stop listening, and end the requests under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        body, mood = await request.read(), self._felt(request.method)
        if mood == Mood.THROTTLED:
            return web.Response(status=429, headers={"Retry-After": self.retry_after}, text="slow down")
        if mood == Mood.FAILED:
            return web.Response(status=500, text="an injected fault")
        got = Received(what=f"{request.method} {request.path}", headers=dict(request.headers), body=body)
        self.received.append(got)
        answer = self.take(request.method, request.path.removeprefix(self.base), request.headers, body)
        if mood == Mood.SLOW:
            await asyncio.sleep(self.seconds)
        if mood == Mood.LOST and request.transport is not None:
            request.transport.abort()
        return answer

    @abstractmethod
    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        """Do what the provider would with a request."""


class Slack(HttpReceiver):
    """chat.postMessage and chat.update, and what happens when somebody presses a button."""

    type = "Slack"
    base = "/api"

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self.token, self.signing_secret = "xoxb-development-only-token", "slack-development-signing"
        #: By channel id and ts, as they read now.
        self.messages: dict[tuple[str, str], dict[str, Any]] = {}
        #: Channels that there are not.
        self.gone: set[str] = set()

    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds."""
        return {"token": self.token, "url": self.url}

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        """Post or update."""
        said = json.loads(body)
        if headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        if said["channel"] in self.gone:
            return web.json_response({"ok": False, "error": "channel_not_found"})
        if path == "/chat.postMessage":
            channel, ts = _slack_id(said["channel"]), f"1700000000.{len(self.messages):06d}"
        else:
            channel, ts = said["channel"], said["ts"]
            if (channel, ts) not in self.messages:
                return web.json_response({"ok": False, "error": "message_not_found"})
        self.messages[channel, ts] = said
        return web.json_response({"ok": True, "channel": channel, "ts": ts})

    def pressed(self, message: Mapping[str, Any], *, by: str, at: datetime) -> Hook:
        """Return what Slack posts when somebody presses the button of a message. Errors: StopIteration without one."""
        button = next(e for block in message["blocks"] for e in block.get("elements", ()) if e["type"] == "button")
        payload = {
            "type": "block_actions",
            "user": {"id": "U0ALICE", "username": by, "team_id": "T0SHOP"},
            "team": {"id": "T0SHOP"},
            "actions": [{**button, "block_id": "b", "action_ts": f"{at.timestamp():.6f}"}],
        }
        return self.signed(urlencode({"payload": json.dumps(payload)}).encode(), at)

    def commanded(self, text: str, *, by: str, at: datetime) -> Hook:
        """Return what Slack posts for `/incident TEXT`."""
        fields = {
            "command": "/incident",
            "text": text,
            "user_id": "U0ALICE",
            "user_name": by,
            "team_id": "T0SHOP",
            "trigger_id": f"{at.timestamp():.6f}.1.x",
        }
        return self.signed(urlencode(fields).encode(), at)

    def signed(self, body: bytes, at: datetime) -> Hook:
        """Return a body as Slack would sign it."""
        seconds = str(int(at.timestamp()))
        code = hmac.new(self.signing_secret.encode(), f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
        return Hook(headers={"X-Slack-Request-Timestamp": seconds, "X-Slack-Signature": f"v0={code}"}, body=body)


def _slack_id(channel: str) -> str:
    return "C" + hashlib.sha256(channel.encode()).hexdigest()[:10].upper()


class PagerDuty(HttpReceiver):
    """The Events API v2, and the webhooks of what people do."""

    type = "PagerDuty"
    base = "/v2/enqueue"

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self.routing_key, self.signing_secret = "d" * 32, "pagerduty-development-signing"
        #: By dedup key: triggered, acknowledged or resolved, and how often an event came.
        self.incidents: dict[str, dict[str, Any]] = {}

    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds."""
        return {"routing-key": self.routing_key, "url": self.url}

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        """Take an event: events of one dedup key are one incident until it is resolved."""
        event = json.loads(body)
        errors = [] if event.get("routing_key") == self.routing_key else ["'routing_key' is not one of ours"]
        if not 0 < len(event.get("dedup_key", "")) <= 255:
            errors.append("'dedup_key' must be at most 255 characters")
        payload = event.get("payload", {})
        if event["event_action"] == "trigger":
            errors += [f"'payload.{k}' is missing" for k in ("summary", "source", "severity") if not payload.get(k)]
            errors += ["'payload.summary' is too long"] if len(payload.get("summary", "")) > 1024 else []
            known = ("critical", "error", "warning", "info")
            errors += ["'payload.severity' is unknown"] if payload.get("severity") not in known else []
        if errors:
            invalid = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            return web.json_response(invalid, status=400)
        states = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}
        incident = self.incidents.setdefault(event["dedup_key"], {"events": 0, "title": "", "state": ""})
        incident["events"] += 1
        # An event more does not un-acknowledge.
        if event["event_action"] != "trigger" or incident["state"] != "acknowledged":
            incident["state"] = states[event["event_action"]]
        incident["title"] = payload.get("summary", incident["title"])
        answer = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return web.json_response(answer, status=202)

    def acknowledged(self, dedup_key: str, *, by: str | None, at: datetime) -> Hook:
        """Return the webhook of an acknowledgement; `by` None is the integration itself, not a person."""
        data = {"id": "Q1", "type": "incident", "incident_key": dedup_key, "status": "acknowledged"}
        return self._event("incident.acknowledged", data, by, at)

    def annotated(self, dedup_key: str, note: str, *, by: str, at: datetime) -> Hook:
        """Return the webhook of a note. Its incident is a reference: a title, no key."""
        reference = {"id": "Q1", "type": "incident_reference", "summary": self.incidents[dedup_key]["title"]}
        data = {"id": "N1", "type": "incident_note", "content": note, "trimmed": False, "incident": reference}
        return self._event("incident.annotated", data, by, at)

    def _event(self, type_: str, data: Mapping[str, Any], by: str | None, at: datetime) -> Hook:
        agent = {"id": "S1", "type": "service_reference", "summary": "Events API"}
        if by is not None:
            agent = {"id": "PXPGF42", "type": "user_reference", "summary": by}
        occurred = at.isoformat()
        digest = hashlib.sha256(f"{type_} {data} {by} {occurred}".encode()).hexdigest()[:24].upper()
        event = {"id": digest, "event_type": type_, "resource_type": "incident", "occurred_at": occurred}
        return self.signed(json.dumps({"event": {**event, "agent": agent, "data": data}}).encode())

    def signed(self, body: bytes) -> Hook:
        """Return a body as PagerDuty would sign it; while a secret is being replaced, it signs with both."""
        code = hmac.new(self.signing_secret.encode(), body, hashlib.sha256).hexdigest()
        return Hook(headers={"X-PagerDuty-Signature": f"v1={'0' * 64},v1={code}"}, body=body)


class Webhook(HttpReceiver):
    """A receiver that takes only what is signed, and each Idempotency-Key once."""

    type = "Webhook"
    base = "/incidents"

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self.signing_key = "webhook-development-signing"
        #: By Idempotency-Key: what was acted on.
        self.taken: dict[str, Any] = {}

    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds."""
        return {"signing-key": self.signing_key, "url": self.url}

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        """Verify, then take."""
        parts = dict(part.partition("=")[::2] for part in headers.get("X-Incident-Signature", "").split(","))
        wanted = hmac.new(self.signing_key.encode(), f"{parts.get('t')}.".encode() + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, parts.get("v1", "")):
            return web.Response(status=401, text="not signed by you")
        self.taken.setdefault(headers["Idempotency-Key"], json.loads(body))
        return web.Response(status=204)


class StatusPage(HttpReceiver):
    """A page of Statuspage: incidents that are created, updated, and listed while they are open."""

    type = "StatusPage"
    base = "/v1"

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self.token, self.page = "statuspage-development-token", "pg1"
        self.incidents: dict[str, dict[str, Any]] = {}

    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds."""
        return {"token": self.token, "page": self.page, "url": self.url}

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        """Create, update or list."""
        if headers.get("Authorization") != f"OAuth {self.token}":
            return web.json_response({"error": "Could not authenticate"}, status=401)
        before = f"/pages/{self.page}/incidents"
        if not path.startswith(before):
            return web.json_response({"error": "Not found"}, status=404)
        id_ = path.removeprefix(before).strip("/")
        if method == "GET" and id_ == "unresolved":
            return web.json_response([i for i in self.incidents.values() if i["status"] != "resolved"])
        said = json.loads(body)["incident"]
        if method == "POST" and not id_:
            id_ = f"i{len(self.incidents)}"
            self.incidents[id_] = {"status": "investigating", **said, "id": id_}
            return web.json_response(self.incidents[id_], status=201)
        if method != "PATCH" or id_ not in self.incidents:
            return web.json_response({"error": "Not found"}, status=404)
        self.incidents[id_] |= said
        return web.json_response(self.incidents[id_])


class Mail(Receiver):
    """A mail server with one user; recipients can be refused one by one, and TLS is offered where it has a key."""

    type = "Email"

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__(loop, host)
        self.user, self.password = "operator", "mail-development-password"
        #: Recipients that are refused, with the code that they are refused with.
        # It warns of what it will change itself one day.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self.refuses: dict[str, int] = {}
        #: TLS that is offered, and TLS that there is from the first byte; changed while it is down.
        self.starttls: ssl.SSLContext | None = None
        self.tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    def credential(self) -> dict[str, str]:
        """Return what a channel's Secret holds."""
        return {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "from": "incidents@shopsmart.com",
            "tls": "none",
        }

    async def start(self) -> None:
        """Listen."""
        self._server = await self._loop.create_server(self._protocol, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end the connections there are."""
        if self._server is not None:
            self._server.close()
            for transport in self._open:
                transport.abort()
            self._server = None

    def _protocol(self) -> SMTP:
        return _Smtp(
            self,
            hostname="mail.development",
            authenticator=self._authenticate,
            auth_require_tls=False,
            tls_context=self.starttls,
            loop=self._loop,
            ident="development",
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        known = LoginPassword(self.user.encode(), self.password.encode())
        return AuthResult(success=isinstance(data, LoginPassword) and data == known, handled=False)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, sender: str, options: list[str]
    ) -> str:
        """Begin a mail of somebody known."""
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = sender
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, recipient: str, options: list[str]
    ) -> str:
        """Take a recipient, or refuse them."""
        code = self.refuses.get(recipient)
        if code is not None:
            return f"{code} refused"
        envelope.rcpt_tos.append(recipient)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        mood = self._felt()
        if mood == Mood.THROTTLED:
            return "451 too many messages"
        if mood == Mood.FAILED:
            return "421 an injected fault"
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        recipients = ", ".join(envelope.rcpt_tos)
        self.received.append(Received(what=f"mail to {recipients}", body=content))
        if mood == Mood.SLOW:
            await asyncio.sleep(self.seconds)
        if mood == Mood.LOST and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return "250 taken"


class _Smtp(SMTP):
    """aiosmtpd's protocol, which does not tell which connections are open."""

    def __init__(self, mail: Mail, **options: Any) -> None:
        super().__init__(mail, **options)
        self._connections = mail._open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if isinstance(self.transport, asyncio.Transport):
            self._connections.discard(self.transport)
        super().connection_lost(error)


def readable(namespace: str, secrets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the Role, with its binding, that lets the operator read these Secrets: as docs/channels.md says."""
    metadata, group = {"name": "incident-channels", "namespace": namespace}, "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(secrets), "verbs": ["get"]}
    account = {"kind": "ServiceAccount", "name": "incident-operator", "namespace": "incident-system"}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "incident-channels"},
            "subjects": [account],
        },
    ]


class Receivers:
    """All of them, in a thread of their own. Use as a context manager; its methods are for other threads."""

    def __init__(self, host: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receivers", daemon=True)
        host = host or address()
        self.slack = Slack(self._loop, host)
        self.pagerduty = PagerDuty(self._loop, host)
        self.webhook = Webhook(self._loop, host)
        self.statuspage = StatusPage(self._loop, host)
        self.mail = Mail(self._loop, host)

    @property
    def all(self) -> tuple[Receiver, ...]:
        """Each of them."""
        return (self.slack, self.pagerduty, self.webhook, self.statuspage, self.mail)

    def channels(self) -> list[dict[str, Any]]:
        """Return an EscalationPolicy's `spec.channels` that lead here, each with the Secret of its name."""
        return [
            {
                "name": one.type,
                "type": one.type,
                "address": "#incident-response",
                "secretRef": {"name": f"channel-{one.type.lower()}"},
            }
            for one in self.all
        ]

    def secrets(self, namespace: str) -> list[dict[str, Any]]:
        """Return the Secrets of `channels`, as manifests."""
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "ops.shopsmart.com/connection",
                "metadata": {"name": channel["secretRef"]["name"], "namespace": namespace},
                "stringData": one.credential(),
            }
            for one, channel in zip(self.all, self.channels(), strict=True)
        ]

    def __enter__(self) -> "Receivers":
        self._thread.start()
        self._each(lambda receiver: receiver.start())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._each(lambda receiver: receiver.stop())
            asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result(10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _each(self, work: Callable[[Receiver], Coroutine[Any, Any, None]]) -> None:
        for receiver in self.all:
            asyncio.run_coroutine_threadsafe(work(receiver), self._loop).result(10)

    async def _settle(self) -> None:
        """End what is still answering slowly."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*others, return_exceptions=True)
