"""API Gateway: keys, plans and stages. A key's value is never asked for, and never kept."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead

_NONE = ("NotFoundException",)
_GET = ("apigateway:GET",)


def _key(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": answer["id"], "name": answer.get("name", ""), "enabled": answer["enabled"]}


def _plans(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": plan["id"],
            "stages": [{"apiId": s["apiId"], "stage": s["stage"]} for s in plan.get("apiStages", ())],
        }
        for plan in answer.get("items", ())
    ]


def _usage(answer: Mapping[str, Any]) -> dict[str, int]:
    """Keep how often each key was used in all, by id."""
    return {key: sum(int(day[0]) for day in days) for key, days in (answer.get("items") or {}).items()}


def _stage(answer: Mapping[str, Any]) -> dict[str, Any]:
    settings = answer.get("accessLogSettings") or {}
    return {"logArn": settings.get("destinationArn", ""), "logFormat": settings.get("format", "")}


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("apigateway", "get_api_key"): ListedRead(permissions=_GET, project=_key, missing=_NONE),
    ("apigateway", "get_usage_plans"): ListedRead(permissions=_GET, project=_plans, items="items", missing=_NONE),
    ("apigateway", "get_usage"): ListedRead(permissions=_GET, project=_usage, missing=_NONE),
    ("apigateway", "get_stage"): ListedRead(permissions=_GET, project=_stage, missing=_NONE),
}
