"""What of a call is known only when it is sent: the plan that it is of, and the instant. The plan itself is immutable.

Vocabulary: a *marker* stands in a call's arguments for what is filled in. Beside these two there are `fromTargets`
(`core.planning`) and `fromResult`, which is filled in from an earlier call's answer.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..api.meta import format_duration, parse_duration
from ..api.plan import Call, RemediationPlan
from .schedule import Timing

FROM_PLAN, FROM_NOW = "fromPlan", "fromNow"
MARKERS = (FROM_PLAN, FROM_NOW)


def named_for_plan(prefix: str) -> dict[str, Any]:
    """Return the marker of a name that is this plan's alone: what is made twice under it is one thing."""
    return {FROM_PLAN: {"prefix": prefix}}


def from_now(wait: timedelta) -> dict[str, Any]:
    """Return the marker of the instant so long after the call is sent. Units: real, divided by the time scale."""
    return {FROM_NOW: {"wait": format_duration(wait)}}


def plan_name_of(marker: Mapping[str, Any], plan: RemediationPlan) -> str:
    """Return the name that a `fromPlan` stands for. Errors: ValueError for a plan that was never stored."""
    if not plan.metadata.uid:
        raise ValueError(f"plan {plan.metadata.name} was never stored: nothing can be named after it")
    return f"{marker['prefix']}{plan.metadata.uid}"


def filled(call: Call, plan: RemediationPlan, at: datetime, timing: Timing) -> Call:
    """Return the call as it is sent at this instant, with what these markers stand for.

    Shape: instants are RFC 3339 text in whole seconds, never earlier than asked for.
    """

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {FROM_PLAN}:
                return plan_name_of(value[FROM_PLAN], plan)
            if set(value) == {FROM_NOW}:
                due = at + timing.scaled(parse_duration(value[FROM_NOW]["wait"]))
                whole = due.replace(microsecond=0) + timedelta(seconds=1 if due.microsecond else 0)
                return whole.isoformat().replace("+00:00", "Z")
            return {key: fill(inner) for key, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list | tuple) else value

    return call.model_copy(update={"arguments": fill(call.arguments)})
