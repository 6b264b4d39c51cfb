"""Invocation of functions: which version, whether there is room, under which role; and what is told of it later."""

import base64
import json
import os
import random
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .authorization import customer_key, why_not
from .clock import Clock
from .functions import aliases_of, version_of
from .identity import Principal, Sessions, lambda_may_assume, role_named, session_of
from .permissions import Need, function_name
from .telemetry import LOGS_DELAY, METRICS_DELAY, Delayed, Dimensions, Metrics, log_stream, show_lines
from .wire import Call, Refused, Reply
from .workers import Deployment, Outcome, Workers

_SESSION = timedelta(hours=12)
_TAIL = 4096


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is invoked. Shape: `qualifier` as the caller gave it, None for none."""

    account: str
    region: str
    name: str
    qualifier: str | None
    deployment: Deployment
    reserved: int | None

    @property
    def label(self) -> str:
        """The metrics' `Resource` dimension."""
        return f"{self.name}:{self.qualifier}" if self.qualifier else self.name

    @property
    def dimensions(self) -> list[Dimensions]:
        """The sets of dimensions its metrics are kept under."""
        function = ("FunctionName", self.name)
        resource = ("Resource", self.label)
        found: list[Dimensions] = [(function,), (function, resource)]
        if self.qualifier and not self.qualifier.isdigit() and self.qualifier != "$LATEST":
            found.append((function, resource, ("ExecutedVersion", self.deployment.version)))
        return found


@dataclass(kw_only=True)
class Invoker:
    """Runs functions. Thread-safe; `lock` guards moto and is never held while a function runs."""

    clock: Clock
    sessions: Sessions
    delayed: Delayed
    metrics: Metrics
    workers: Workers
    lock: threading.RLock
    _running: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def invoke(self, call: Call, principal: Principal) -> Reply:
        """Answer lambda:Invoke. Errors: Refused for what can't be run; a function's own failure is an answer."""
        body = call.arguments.get("Payload") or b""
        try:
            event = json.loads(body) if body else {}
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise Refused("InvalidRequestContentException", message) from None
        with self.lock:
            target = self._target(call, principal)
        kind = call.arguments.get("InvocationType") or "RequestResponse"
        if kind == "DryRun":
            return call.answer({"StatusCode": 204}, status=204)
        if kind == "Event":
            threading.Thread(target=self._in_background, args=(target, event, call.id), daemon=True).start()
            return call.answer({"StatusCode": 202}, status=202)
        outcome, log = self._run(target, event, call.id)
        answer: dict[str, Any] = {"StatusCode": 200, "ExecutedVersion": target.deployment.version}
        if outcome.error is not None:
            answer["FunctionError"] = "Unhandled"
        answer["Payload"] = json.dumps(outcome.value if outcome.error is None else outcome.error).encode()
        if call.arguments.get("LogType") == "Tail":
            answer["LogResult"] = base64.b64encode("\n".join(log).encode()[-_TAIL:]).decode()
        return call.answer(answer)

    def _target(self, call: Call, principal: Principal) -> Target:
        name, qualifier = function_name(call.arguments["FunctionName"])
        qualifier = qualifier or call.arguments.get("Qualifier")
        account, region = principal.account, call.region
        alias = aliases_of(account, region, name).get(qualifier or "")
        version = qualifier
        if alias is not None:
            version = _weighted(alias.function_version, alias.routing_config)
        function = version_of(account, region, name, version)
        latest = version_of(account, region, name, None)
        deployment = Deployment(
            arn=latest.function_arn,
            version=str(function.version),
            handler=function.handler or "",
            code=function.code_bytes,
            environment=tuple(sorted(function.environment_vars.items())),
            timeout=float(function.timeout),
            memory=int(function.memory_size),
            role=function.role,
        )
        self._check_role(function, name, region)
        reserved = latest.reserved_concurrency
        return Target(
            account=account,
            region=region,
            name=name,
            qualifier=qualifier,
            deployment=deployment,
            reserved=None if reserved is None else int(reserved),
        )

    def _check_role(self, function: Any, name: str, region: str) -> None:
        role = role_named(function.role)
        if role is None or not lambda_may_assume(role):
            message = "The role defined for the function cannot be assumed by Lambda."
            raise Refused("AccessDeniedException", message, status=403)
        key = customer_key(function.kms_key_arn, region, role.account_id) if function.environment_vars else None
        why = why_not(Need(action="kms:Decrypt", resource=key), session_of(role, name)) if key else ""
        if why:
            user = session_of(role, name).arn
            message = (
                "Lambda was unable to decrypt the environment variables because KMS access was denied. Please check "
                "the function's KMS key settings. KMS Exception: AccessDeniedException KMS Message: "
                f"User: {user} is not authorized to perform: kms:Decrypt on resource: {key} {why}"
            )
            raise Refused("KMSAccessDeniedException", message, status=502)

    def environment(self, deployment: Deployment, stream: str, endpoint: str, path: str) -> dict[str, str]:
        """Return a worker's whole environment: its own variables, credentials of its role, and our address."""
        _, _, _, region, _, _, name = deployment.arn.split(":", 6)
        role = role_named(deployment.role)
        made = self.sessions.open(session_of(role, name[:64], by_lambda=True), _SESSION)
        return {
            **dict(deployment.environment),
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": made.access_key_id,
            "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
            "AWS_SESSION_TOKEN": made.session_token,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Nothing of the developer's own AWS configuration reaches a function.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": deployment.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(deployment.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "_HANDLER": deployment.handler,
        }

    def _in_background(self, target: Target, event: Any, request: str) -> None:
        try:
            self._run(target, event, request)
        except Refused as refused:
            # An asynchronous caller has its answer already; the throttle is in the metrics.
            if refused.status != 429:
                raise

    def _run(self, target: Target, event: Any, request: str) -> tuple[Outcome, list[str]]:
        key = (target.account, target.region, target.name)
        with self.lock:
            if target.reserved is not None and self._running[key] >= target.reserved:
                self._count(target, self.clock.now(), Throttles=1.0)
                message = "Rate Exceeded."
                reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
                raise Refused("TooManyRequestsException", message, status=429, Reason=reason, Type="User")
            self._running[key] += 1
        begun = self.clock.now()
        try:
            stream = log_stream(begun, target.deployment.version, uuid.uuid4().hex)
            deadline = begun.timestamp() + target.deployment.timeout
            arn = target.deployment.arn + (f":{target.qualifier}" if target.qualifier else "")
            line = {"requestId": request, "event": event, "arn": arn, "deadline": deadline}
            outcome = self.workers.run(target.deployment, stream, line)
        finally:
            with self.lock:
                self._running[key] -= 1
        lines = _log(target, outcome, request, begun, self.clock.now())
        group = f"/aws/lambda/{target.name}"
        self.delayed.later(LOGS_DELAY, lambda: show_lines(target.account, target.region, group, outcome.stream, lines))
        self._count(
            target,
            begun,
            Invocations=1.0,
            Errors=float(outcome.error is not None),
            Throttles=0.0,
            Duration=outcome.seconds * 1000,
        )
        return outcome, [text for _, text in lines]

    def _count(self, target: Target, at: datetime, **values: float) -> None:
        self.delayed.later(
            METRICS_DELAY,
            lambda: self.metrics.add(target.account, target.region, target.dimensions, at, **values),
        )


def _weighted(version: str, routing: Any) -> str:
    """Return the version that one invocation of an alias gets."""
    weights = (routing or {}).get("AdditionalVersionWeights") or {}
    draw = random.random()
    for other, weight in weights.items():
        draw -= float(weight)
        if draw < 0:
            return str(other)
    return version


def _log(
    target: Target, outcome: Outcome, request: str, begun: datetime, ended: datetime
) -> list[tuple[datetime, str]]:
    """Return the lines of one invocation, as Lambda writes them."""
    version, memory = target.deployment.version, target.deployment.memory
    milliseconds = outcome.seconds * 1000
    lines = [(begun, f"START RequestId: {request} Version: {version}\n")]
    if outcome.init_seconds is not None:
        lines.insert(0, (begun, "INIT_START Runtime Version: python:3.11\n"))
    lines.extend((ended, f"{text}\n") for text in outcome.lines)
    if outcome.timed_out:
        stamp = f"{ended:%Y-%m-%dT%H:%M:%S}.{ended.microsecond // 1000:03d}Z"
        lines.append((ended, f"{stamp} {request} Task timed out after {target.deployment.timeout:.2f} seconds\n\n"))
    elif outcome.error is not None and outcome.error.get("errorType") == "Runtime.ExitError":
        lines.append((ended, f"{outcome.error['errorMessage']}\nRuntime.ExitError\n"))
    lines.append((ended, f"END RequestId: {request}\n"))
    report = [
        f"REPORT RequestId: {request}",
        f"Duration: {milliseconds:.2f} ms",
        f"Billed Duration: {int(milliseconds) + 1} ms",
        f"Memory Size: {memory} MB",
        f"Max Memory Used: {min(outcome.peak_memory, memory)} MB",
    ]
    if outcome.init_seconds is not None:
        report.append(f"Init Duration: {outcome.init_seconds * 1000:.2f} ms")
    if outcome.timed_out:
        report.append("Status: timeout")
    lines.append((ended, "\t".join(report) + "\t\n"))
    return lines
