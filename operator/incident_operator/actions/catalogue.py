"""The catalogue: every action by name, ours and those of other distributions."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..core.catalogue import ActionInfo, Catalogue
from .base import Action, CheckAction, FixAction, registry

#: One file per target system.
_FILES = (
    "apigateway",
    "autoscaling",
    "autoscaling_fixes",
    "autoscaling_instances",
    "autoscaling_zero",
    "aws",
    "awslambda",
    "awslambda_fixes",
    "cache",
    "cloudtrail",
    "cloudwatch",
    "ec2",
    "elasticache",
    "elbv2",
    "elbv2_fixes",
    "evidence",
    "http",
    "iam",
    "iam_credentials",
    "iam_sessions",
    "postgres",
    "postgres_backends",
    "postgres_index",
    "rds",
    "rds_replica",
    "s3",
    "s3_requests",
    "tcp",
    "waf",
    "waf_fixes",
)
ENTRY_POINTS = "incident_operator.actions"


@cache
def catalogue() -> Mapping[str, Action[Any, Any]]:
    """Return every action by name. Errors: ValueError where two share one."""
    for file in _FILES:
        import_module(f".{file}", __package__)
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
    return registry()


def check_action(name: str) -> CheckAction[Any, Any]:
    """Return a check by name. Errors: KeyError; TypeError for a fix."""
    action = catalogue()[name]
    if not isinstance(action, CheckAction):
        raise TypeError(f"{name} is no check")
    return action


def fix_action(name: str) -> FixAction[Any, Any]:
    """Return a fix by name. Errors: KeyError; TypeError for a check."""
    action = catalogue()[name]
    if not isinstance(action, FixAction):
        raise TypeError(f"{name} is no fix")
    return action


@cache
def infos() -> Catalogue:
    """Return what the core may know of each action."""
    return {
        action.name: ActionInfo(
            name=action.name,
            title=action.title,
            kind=action.kind,
            inputs_schema=action.inputs_model.model_json_schema(by_alias=True),
            reasons=frozenset(action.reasons),
            refused=action.refused,
        )
        for action in catalogue().values()
    }
