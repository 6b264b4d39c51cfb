"""API Gateway: REST APIs that really answer, by who asks: keys that can be disabled, usage plans, quotas, access logs.

moto keeps the records; it serves no request and knows no usage. A stage is at `/restapis/<api>/<stage>/_user_request_/`
on the simulator. Integrated are MOCK and AWS with `dynamodb:action/Scan`, as the role of the integration's credentials.
Source: API Gateway developer guide, "Usage plans and API keys", "Variables for access logging".
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from moto.apigateway.models import apigateway_backends
from moto.dynamodb.models import dynamodb_backends

from ..authorization import why_not
from ..identity import Principal, role_named, session_of
from ..permissions import Need, table_arn
from ..telemetry import LOGS_DELAY, show_lines
from ..trail import SOURCE
from ..wire import Call, Environ, Refused, Reply
from .service import Handler, Needs, Parts, Service

PREFIX, MARK = "/restapis/", "_user_request_"
NAMESPACE = "AWS/ApiGateway"
_SCAN = re.compile(r"arn:aws:apigateway:([a-z0-9-]+):dynamodb:action/Scan")
_VARIABLE = re.compile(r"\$context\.([A-Za-z.]+)")
_FORBIDDEN, _MANY, _LIMIT = "Forbidden", "Too Many Requests", "Limit Exceeded"


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """A stage that somebody asks, and what of it. Shape: `path` begins with a slash."""

    account: str
    region: str
    api: Any
    stage: Any
    path: str

    @property
    def backend(self) -> Any:
        """The records of moto."""
        return apigateway_backends[self.account][self.region]


@dataclass
class _Bucket:
    """The tokens of one key under one plan's throttle."""

    tokens: float
    at: datetime

    def take(self, rate: float, burst: float, now: datetime) -> bool:
        """Take one; False where there is none left."""
        self.tokens = min(burst, self.tokens + rate * (now - self.at).total_seconds())
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class ApiGateway(Service):
    """REST APIs, their keys and their usage."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        #: Requests by account, plan, key and UTC day.
        self._used = Counter[tuple[str, str, str, date]]()
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto lacks, or takes too lightly."""
        return {
            ("apigateway", "GetUsage"): self._get_usage,
            ("apigateway", "UpdateApiKey"): _update_api_key,
        }

    def needs(self) -> Mapping[str, Needs]:
        """Return what calls need: the HTTP method on the path, as API Gateway has its IAM actions."""

        def of(call: Call, account: str) -> Iterator[Need]:
            method, path = call.environ["REQUEST_METHOD"], call.environ["PATH_INFO"]
            yield Need(action=f"apigateway:{method}", resource=f"arn:aws:apigateway:{call.region}::{path}")

        return {"apigateway": of}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return keys without their values, and plans; how much was used is telemetry."""
        keys: dict[str, Any] = {}
        plans: dict[str, Any] = {}
        for region, backend in apigateway_backends[account].items():
            keys |= {f"{region}/{key.id}": _key(key) for key in backend.keys.values()}
            for plan in backend.usage_plans.values():
                of = sorted(backend.usage_plan_keys.get(plan.id, {}))
                shown = {"stages": plan.api_stages, "throttle": plan.throttle, "quota": plan.quota, "keys": of}
                plans[f"{region}/{plan.id}"] = json.loads(json.dumps(shown))
        return {"apiKeys": keys, "usagePlans": plans} if keys or plans else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the key that a call is about."""
        name = call.arguments.get("apiKey")
        if call.service != "apigateway" or not name:
            return None
        key = apigateway_backends[account][call.region].keys.get(name)
        return _key(key) if key is not None else None

    def _get_usage(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Answer how much of a plan was used by each of its keys, and what its quota leaves, day by day."""
        arguments, backend = call.arguments, apigateway_backends[principal.account][call.region]
        plan = backend.usage_plans.get(arguments["usagePlanId"])
        if plan is None:
            raise Refused("NotFoundException", "Invalid Usage Plan ID specified", status=404)
        first, last = (date.fromisoformat(arguments[name]) for name in ("startDate", "endDate"))
        if not first <= last <= first + timedelta(days=90):
            raise Refused("BadRequestException", "Usage is kept for 90 days, and ends after it begins")
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        keys = backend.usage_plan_keys.get(plan.id, {})
        chosen = [key for key in keys if arguments.get("keyId") in (None, key)]
        limit = int(plan.quota.get("limit", 0))
        items = {}
        for key in chosen:
            used = [self._used[principal.account, plan.id, key, day] for day in days]
            items[key] = [[n, max(limit - n, 0)] for n in used]
        answer = {"usagePlanId": plan.id, "startDate": f"{first}", "endDate": f"{last}", "items": items}
        return call.answer(answer)

    # --- requests -----------------------------------------------------------------------------------------------

    def serve(self, environ: Environ) -> Reply | None:
        """Answer a request to a stage; None for any other request."""
        asked = _stage_of(environ.get("PATH_INFO", ""))
        if asked is None:
            return None
        now, method = self.parts.clock.now(), environ["REQUEST_METHOD"]
        resource = next((r for r in asked.api.resources.values() if r.get_path() == asked.path), None)
        target = resource.resource_methods.get(method) if resource is not None else None
        key = None
        if target is None:
            status, body = 403, json.dumps({"message": "Missing Authentication Token"})
        else:
            key = _key_of(asked, environ) if target.api_key_required else None
            status, why = self._admitted(asked, key, now) if target.api_key_required else (200, "")
            status, body = _integrated(asked, target) if status == 200 else (status, json.dumps({"message": why}))
        request = {
            "requestId": str(uuid.uuid4()),
            "identity.sourceIp": environ.get(SOURCE) or environ.get("REMOTE_ADDR", ""),
            "identity.apiKeyId": key.id if key is not None else "-",
            "requestTimeEpoch": str(int(now.timestamp() * 1000)),
            "httpMethod": method,
            "resourcePath": asked.path if resource is not None else "-",
            "stage": asked.stage.name,
            "status": str(status),
            "responseLength": str(len(body)),
        }
        self._write_down(asked, request, now)
        headers = (("Content-Type", "application/json"), ("x-amzn-RequestId", request["requestId"]))
        return Reply(status=status, headers=headers, body=body.encode())

    def _admitted(self, asked: _Stage, key: Any, now: datetime) -> tuple[int, str]:
        """Return 200 for a key that may, having counted the request; else the status and why not."""
        plan = _plan_of(asked, key) if key is not None and key.enabled else None
        if plan is None:
            return 403, _FORBIDDEN
        name, used = (asked.account, plan.id, key.id), self._used
        rate, burst = (float(plan.throttle.get(n, 0)) for n in ("rateLimit", "burstLimit"))
        bucket = self._buckets.setdefault(name, _Bucket(burst, now))
        if plan.throttle and not bucket.take(rate, burst, now):
            return 429, _MANY
        days = {"DAY": 1, "WEEK": 7, "MONTH": 30}.get(plan.quota.get("period", ""), 1)
        spent = sum(used[*name, now.date() - timedelta(days=n)] for n in range(days))
        if plan.quota and spent >= int(plan.quota["limit"]):
            return 429, _LIMIT
        used[*name, now.date()] += 1
        return 200, ""

    def _write_down(self, asked: _Stage, request: Mapping[str, str], now: datetime) -> None:
        """Add to the metrics, and to the access log where the stage has one, late as either is."""
        dimensions = [
            (("ApiName", asked.api.name),),
            (("ApiName", asked.api.name), ("Stage", asked.stage.name)),
        ]
        status = int(request["status"])
        counts = {"Count": 1.0, "4XXError": float(400 <= status < 500), "5XXError": float(status >= 500)}
        self.parts.metrics.add(asked.account, asked.region, dimensions, now, namespace=NAMESPACE, **counts)
        settings = asked.stage.access_log_settings or {}
        group = str(settings.get("destinationArn", "")).partition(":log-group:")[2]
        if group and settings.get("format"):
            line = _VARIABLE.sub(lambda found: request.get(found[1], "-"), settings["format"])
            where = asked.account, asked.region, group.removesuffix(":*"), f"{asked.api.id}_{asked.stage.name}"
            self.parts.delayed.later(LOGS_DELAY, lambda: show_lines(*where, [(now, line)]))


def _stage_of(path: str) -> _Stage | None:
    parts = path.removeprefix(PREFIX).split("/", 3)
    if not path.startswith(PREFIX) or len(parts) < 3 or parts[2] != MARK:
        return None
    name, stage = parts[:2]
    for account in list(apigateway_backends):
        for region, backend in list(apigateway_backends[account].items()):
            api = backend.apis.get(name)
            if api is not None and stage in api.stages:
                rest = parts[3] if len(parts) > 3 else ""
                return _Stage(account=account, region=region, api=api, stage=api.stages[stage], path=f"/{rest}")
    return None


def _key_of(asked: _Stage, environ: Environ) -> Any | None:
    """Return the key of a request, enabled or not; None where it has none that is known."""
    value = environ.get("HTTP_X_API_KEY", "")
    return next((key for key in asked.backend.keys.values() if value and key.value == value), None)


def _plan_of(asked: _Stage, key: Any) -> Any | None:
    """Return the usage plan that gives a key this stage; None where none does."""
    here = {"apiId": asked.api.id, "stage": asked.stage.name}
    for plan in asked.backend.usage_plans.values():
        given = ({name: stage.get(name) for name in here} for stage in plan.api_stages)
        if here in given and key.id in asked.backend.usage_plan_keys.get(plan.id, {}):
            return plan
    return None


def _integrated(asked: _Stage, method: Any) -> tuple[int, str]:
    """Return what the integration answers."""
    integration = method.method_integration
    failed = 500, json.dumps({"message": "Internal server error"})
    if integration is None:
        return failed
    if integration.integration_type == "MOCK":
        return 200, "{}"
    scan = _SCAN.fullmatch(integration.uri or "") if integration.integration_type == "AWS" else None
    role = role_named(integration.credentials or "")
    if scan is None or role is None:
        return failed
    name = json.loads(integration.request_templates["application/json"])["TableName"]
    need = Need(action="dynamodb:Scan", resource=table_arn(name, scan[1], asked.account))
    table = dynamodb_backends[asked.account][scan[1]].tables.get(name)
    if table is None or why_not(need, session_of(role, "BackplaneAssumeRoleSession")):
        return failed
    items = [item.to_json()["Attributes"] for item in table.all_items()]
    return 200, json.dumps({"Items": items, "Count": len(items)})


def _update_api_key(call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
    """Change a key. Errors: Refused for a path or a value that API Gateway does not take, which moto ignores."""
    for change in call.arguments.get("patchOperations") or ():
        path, value = change.get("path", ""), change.get("value", "")
        if change.get("op") != "replace" or path not in ("/enabled", "/name", "/description", "/customerId"):
            raise Refused("BadRequestException", f"Invalid patch path {path}")
        if path == "/enabled" and value not in ("true", "false"):
            raise Refused("BadRequestException", f"Invalid patch value {value}")
    return forward()


def _key(key: Any) -> dict[str, Any]:
    return {"name": key.name, "enabled": key.enabled, "description": key.description}
