"""The shipped EscalationPolicy, and what a test changes of it."""

from functools import cache
from typing import Any

import yaml

from incident_operator.api.escalation import EscalationPolicy, EscalationPolicySpec
from tests.repo.files import ROOT

FILE = ROOT / "manifests/base/escalation-policy.yaml"


@cache
def _shipped() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return raw


def shipped() -> EscalationPolicy:
    """Return the policy that an installation applies."""
    return EscalationPolicy.model_validate(_shipped())


def a_policy(zone: str = "UTC", **calendar: Any) -> EscalationPolicySpec:
    """Return the shipped policy in another zone, with a changed calendar."""
    raw = _shipped()["spec"]
    return EscalationPolicySpec.model_validate(
        {**raw, "timeZone": zone, "calendar": {**raw["calendar"], **calendar}},
    )
