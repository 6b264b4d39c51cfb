"""The order of things for one call: latency, faults, who calls, whether it may, the call itself, and the records of it.

moto is not safe for threads: one lock serializes it. The lock is held neither while a caller waits out the latency
nor while a function runs, whose own calls come back here.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import anonymous, authorization, functions, identity, managed_policies, simulation, storage_rules, telemetry
from .alarms import Alarms
from .clock import Clock
from .faults import Fault, Faults, broken
from .identity import Principal, Sessions
from .invocation import Invoker
from .journal import Journal, is_mutating
from .permissions import Need
from .services import Handler, Service
from .state import touched
from .telemetry import Delayed, Metrics
from .trail import Trail
from .wire import Call, Environ, Refused, Reply, parse, read_body, rewind, run_app, scope_of


@dataclass(kw_only=True)
class Pipeline:
    """Answers AWS calls. Shape: `moto` is moto's WSGI application; `latency` in seconds."""

    moto: Callable[..., Iterable[bytes]]
    clock: Clock
    sessions: Sessions
    journal: Journal
    faults: Faults
    delayed: Delayed
    metrics: Metrics
    alarms: Alarms = field(init=False)
    trail: Trail
    invoker: Invoker
    lock: threading.RLock
    stopping: threading.Event
    services: tuple[Service, ...]
    latency: float = 0.0
    _handlers: Mapping[tuple[str, str], Handler] = field(init=False)

    def __post_init__(self) -> None:
        self.alarms = Alarms(clock=self.clock, metrics=self.metrics)
        self._handlers = self._made_handlers()

    def answer(self, environ: Environ) -> Reply | None:
        """Return the answer to a request; None when the caller is to get none at all."""
        if self.latency:
            time.sleep(self.latency)
        body = read_body(environ)
        scope = scope_of(environ)
        if scope is None:
            with self.lock:
                scope = anonymous.scope_of(environ)
        if scope is None:
            message = b"<Error><Code>MissingAuthenticationToken</Code><Message>Request is not signed</Message></Error>"
            return Reply(status=403, headers=(("Content-Type", "application/xml"),), body=message)
        try:
            call = parse(environ, scope, body)
        except Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
            return Reply(status=refused.status, headers=(("Content-Type", "application/xml"),), body=text.encode())
        return self._answer(call)

    def _answer(self, call: Call) -> Reply | None:
        at = self.clock.now()
        principal: Principal | None = None
        change = None
        fault: Fault | None = None
        try:
            with self.lock:
                key = call.scope.access_key
                principal = identity.resolve(key, self.sessions) if key else anonymous.principal_of(call)
            if principal is None:
                raise _unknown_key(call)
            fault = self.faults.take(call, principal.account, "before")
            if fault is None:
                reply, change = self._permitted(call, principal)
                fault = self.faults.take(call, principal.account, "after")
        except Refused as refused:
            reply = call.refuse(refused)
        except Exception:
            traceback.print_exc()
            reply = call.refuse(Refused("InternalFailure", "the simulator failed; its log says how", status=500))
        if fault is not None:
            if fault.mode == "timeout":
                self.stopping.wait(fault.seconds)
            reply = broken(fault, call)
        # moto makes request ids of its own: the journal has the one that the caller sees.
        call.id = reply.header.get("x-amzn-requestid") or reply.header.get("x-amz-request-id") or call.id
        outcome = f"Fault.{fault.mode}.{fault.when}" if fault else (reply.error_code or "OK")
        self.journal.write(call, principal, at, outcome, change)
        if principal is not None and (fault is None or fault.when == "after"):
            with self.lock:
                self.trail.record(call, principal, at, reply)
                for service in self.services:
                    service.answered(call, at, reply)
        return None if fault is not None and fault.mode == "timeout" else reply

    def _permitted(self, call: Call, principal: Principal) -> tuple[Reply, tuple[Any, Any] | None]:
        """Authorize and make a call. Shape: with what it changed, before and after."""
        with self.lock:
            identity.refuse_to_own_session(call, principal)
            authorization.check(call, principal)
            self.delayed.settle()
            if call.service == "iam":
                managed_policies.bring_in(call, principal.account)
        if call.name == ("lambda", "Invoke"):
            return self.invoker.invoke(call, principal), None
        with self.lock:
            watched = is_mutating(call.operation)
            before = self._touched(call, principal.account) if watched else None
            handler = self._handlers.get(call.name)
            forward = self._forward(call, principal)
            reply = handler(call, principal, forward) if handler else forward()
            after = self._touched(call, principal.account) if watched else None
        return reply, (before, after) if before != after else None

    def _touched(self, call: Call, account: str) -> Any:
        found = touched(call, account)
        return found or next(filter(None, (service.touched(call, account) for service in self.services)), None)

    def _forward(self, call: Call, principal: Principal) -> Callable[[], Reply]:
        def forward() -> Reply:
            environ = dict(call.environ)
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = principal.account
            rewind(environ, call.body)
            reply = run_app(self.moto, environ)
            if reply.status == 500 and b"<html" in reply.body[:200].lower():
                raise Refused("NotImplemented", f"the simulator can't do {call.service} {call.operation}", status=501)
            return reply

        return forward

    def _made_handlers(self) -> dict[tuple[str, str], Handler]:
        """Return what is not left to moto alone."""
        handlers: dict[tuple[str, str], Handler] = {
            ("sts", "AssumeRole"): lambda c, p, _: self._assume(c, p),
            ("sts", "GetSessionToken"): lambda c, p, _: identity.get_session_token(c, p, self.sessions),
            ("sts", "GetCallerIdentity"): lambda c, p, _: identity.get_caller_identity(c, p),
            ("iam", "SimulatePrincipalPolicy"): lambda c, p, _: simulation.simulate(c, p),
            ("cloudtrail", "LookupEvents"): lambda c, p, _: self.trail.lookup(c, p),
            ("cloudwatch", "GetMetricData"): lambda c, p, f: telemetry.get_metric_data(c, p, self.metrics, f),
            ("cloudwatch", "GetMetricStatistics"): lambda c, p, f: telemetry.get_metric_statistics(
                c, p, self.metrics, f
            ),
            ("cloudwatch", "ListMetrics"): lambda c, p, f: telemetry.list_metrics(c, p, self.metrics, f),
            ("cloudwatch", "PutMetricAlarm"): self.alarms.put,
            ("cloudwatch", "PutCompositeAlarm"): self.alarms.refuse_composite,
            ("s3", "PutBucketPolicy"): lambda c, _, f: storage_rules.put_bucket_policy(c, f),
            ("lambda", "CreateFunction"): functions.create_function,
            ("lambda", "ListVersionsByFunction"): lambda c, p, _: functions.list_versions(c, p),
            ("lambda", "PublishVersion"): functions.publish_version,
            ("lambda", "UpdateAlias"): functions.update_alias,
        }
        for operation in ("DescribeAlarms", "DescribeAlarmsForMetric", "SetAlarmState"):
            handlers["cloudwatch", operation] = self.alarms.looked_at
        for operation in (
            "UpdateFunctionCode",
            "UpdateFunctionConfiguration",
            "PutFunctionConcurrency",
            "DeleteFunctionConcurrency",
        ):
            handlers["lambda", operation] = lambda c, p, f: functions.update_function(c, p, self.clock, f)
        for service in self.services:
            handlers.update(service.handlers())
        return handlers

    def _assume(self, call: Call, principal: Principal) -> Reply:
        need = Need(action="sts:AssumeRole", resource=call.arguments.get("RoleArn", ""))
        why = authorization.why_not(need, principal)
        if why.startswith("with an explicit deny"):
            message = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {need.resource}"
            raise Refused("AccessDenied", f"{message} {why}", status=403)
        return identity.assume_role(call, principal, self.sessions, identity_allows=not why)


def _unknown_key(call: Call) -> Refused:
    """Return what AWS says to a key it does not know."""
    if call.service == "s3":
        message = "The AWS Access Key Id you provided does not exist in our records."
        return Refused("InvalidAccessKeyId", message, status=403)
    message = "The security token included in the request is invalid."
    code = "InvalidClientTokenId" if call.protocol in ("query", "ec2") else "UnrecognizedClientException"
    return Refused(code, message, status=403 if call.protocol != "json" else 400)
