"""Gates: small pure functions, each named by the fact that blocks. The list is open.

A gate gets all it may know and answers with a verdict or None. Hard gates can't be talked away; soft ones may be
named in an approval's `override`. Source: design §4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..api.grant import ActionGrant
from ..api.meta import Automation, Risk
from ..api.plan import GateVerdict, Hazard, RemediationPlanSpec, Tier
from ..api.run import Baseline
from .risk import at_most, effective, matches


@dataclass(frozen=True, kw_only=True)
class GateFacts:
    """All that a gate may know.

    Shape: `grant` is the one that permits the plan's action now, read live; None where there is none any more.
    """

    plan: RemediationPlanSpec
    run_automation: Automation
    grant: ActionGrant | None
    baseline: Baseline | None
    drill: bool = False
    runbook_valid: bool = True
    leading: bool = True


Gate = Callable[[GateFacts], GateVerdict | None]


def _blocks(name: str, message: str, *, hard: bool = True) -> GateVerdict:
    return GateVerdict(name=name, message=message, hard=hard)


def runbook_invalid(facts: GateFacts) -> GateVerdict | None:
    """The runbook does not hold any more."""
    return (
        None if facts.runbook_valid else _blocks("RunbookInvalid", "the runbook is not valid: see its Ready condition")
    )


def grant_missing(facts: GateFacts) -> GateVerdict | None:
    """No grant covers the plan's action, region and everything it touches (invariant I11)."""
    grant, plan = facts.grant, facts.plan
    if grant is None or grant.spec.aws is None:
        return _blocks("GrantMissing", f"no ActionGrant permits {plan.action} here; ask a platform admin for one")
    aws = grant.spec.aws
    if aws.account != plan.account or aws.role_arn != plan.role:
        return _blocks("GrantMissing", f"ActionGrant {grant.metadata.name} is for another account or role now")
    if plan.region not in aws.regions:
        return _blocks("GrantMissing", f"ActionGrant {grant.metadata.name} does not list region {plan.region}")
    outside = [arn for arn in plan.touches if not matches(arn, aws.resources)]
    if outside:
        return _blocks("GrantMissing", f"ActionGrant {grant.metadata.name} does not list {outside[0]} in aws.resources")
    return None


def risk_above_ceiling(facts: GateFacts) -> GateVerdict | None:
    """The plan's risk is more than the run and the grant let the machine even ask for."""
    ceiling = ceilings(facts).ask_up_to
    if facts.drill:
        return _blocks("RiskAboveCeiling", "a drill changes nothing")
    if not at_most(facts.plan.risk, ceiling):
        return _blocks("RiskAboveCeiling", f"risk {facts.plan.risk} is above askUpTo {ceiling}")
    return None


def permission_missing(facts: GateFacts) -> GateVerdict | None:
    """The grant's role may not do what the plan needs, by simulation."""
    denied = facts.plan.permission.denied
    if denied:
        return _blocks("PermissionMissing", f"{facts.plan.role} may not {', '.join(denied[:3])}; add it to the role")
    return None


def not_leader(facts: GateFacts) -> GateVerdict | None:
    """This replica does not hold the Lease."""
    return None if facts.leading else _blocks("NotLeader", "another replica leads")


def approval_missing(facts: GateFacts) -> GateVerdict | None:
    """A person must agree: by risk, by tier, by hazard, by what is not known, or since users are well."""
    plan = facts.plan
    if plan.ask_because:
        return _blocks("ApprovalMissing", f"a person must agree: {', '.join(plan.ask_because)}")
    if plan.tier == Tier.SECURITY or {Hazard.EXPOSES_DATA, Hazard.LOSES_DATA} & set(plan.hazards):
        return _blocks("ApprovalMissing", f"tier {plan.tier} is never automatic")
    ceiling = ceilings(facts).apply_up_to
    if not at_most(plan.risk, ceiling):
        return _blocks("ApprovalMissing", f"risk {plan.risk} is above applyUpTo {ceiling}")
    if facts.baseline is not None and facts.baseline.state == "Passing":
        return _blocks("ApprovalMissing", "users were well before anything was touched (baseline Passing)")
    return None


#: In the order in which they are shown.
GATES: tuple[Gate, ...] = (
    runbook_invalid,
    grant_missing,
    risk_above_ceiling,
    permission_missing,
    not_leader,
    approval_missing,
)


def ceilings(facts: GateFacts) -> Automation:
    """Return the effective automation: the minimum of run and grant."""
    grant = facts.grant.spec.automation if facts.grant is not None else Automation(ask_up_to=Risk.NONE)
    return effective(facts.run_automation, grant)


def closed(facts: GateFacts, gates: Sequence[Gate] = GATES) -> tuple[GateVerdict, ...]:
    """Return every gate that blocks; empty means the plan may be applied by the machine."""
    return tuple(verdict for gate in gates if (verdict := gate(facts)) is not None)
