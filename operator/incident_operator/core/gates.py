"""Gates: small pure functions, each named by the fact that blocks. The list is open.

A gate gets all it may know and answers with a verdict or None. Hard gates can't be talked away; soft ones may be
named in an approval's `override`. Source: design §4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..api.grant import ActionGrant, ApprovalRule, Approvals
from ..api.meta import Automation, Risk
from ..api.plan import Approval, GateVerdict, Hazard, PlanState, RemediationPlanSpec, Tier
from ..api.run import Baseline, FixState, FixStatus
from .approval import in_force, is_enough, overridden, told_progress
from .risk import at_most, effective, matches


@dataclass(frozen=True, kw_only=True)
class GateFacts:
    """All that a gate may know.

    Shape: `grant` is the one that permits the plan's action now, read live; None where there is none any more.
    `admission` says why it is not proven that people's words are checked, None where it is. `approvals` may have
    run out. `cooldown_until` and `circuit_open` are of the policy that started the run, if one did. `fixes` is what
    became of all fixes of the run; those named by `skipped` a person left out.
    """

    plan: RemediationPlanSpec
    run_automation: Automation
    grant: ActionGrant | None
    baseline: Baseline | None
    now: datetime
    approvals: tuple[Approval, ...] = ()
    drill: bool = False
    runbook_valid: bool = True
    runbook_stale: bool = False
    leading: bool = True
    admission: str | None = None
    cooldown_until: datetime | None = None
    circuit_open: bool = False
    fixes: tuple[FixStatus, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def rule(self) -> ApprovalRule:
        """The rule by which people agree to this plan."""
        approvals = self.grant.spec.approvals if self.grant is not None else Approvals()
        return approvals.rule(self.plan.tier)

    @property
    def agreeing(self) -> tuple[Approval, ...]:
        """The approvals that count now: of this tier, and not run out."""
        return tuple(a for a in in_force(self.approvals, self.now) if a.tier == self.plan.tier)


Gate = Callable[[GateFacts], GateVerdict | None]

#: Gates that open without anybody changing the plan: worth waiting for. All are hard but EvidenceMissing.
PASSING = frozenset({"GrantSuspended", "AdmissionUnproven", "ResourceLocked", "NotLeader", "EvidenceMissing"})


def _blocks(name: str, message: str, *, hard: bool = True) -> GateVerdict:
    return GateVerdict(name=name, message=message, hard=hard)


def runbook_invalid(facts: GateFacts) -> GateVerdict | None:
    """The runbook does not hold any more."""
    return (
        None if facts.runbook_valid else _blocks("RunbookInvalid", "the runbook is not valid: see its Ready condition")
    )


def outside_grant(plan: RemediationPlanSpec, grant: ActionGrant) -> str | None:
    """Return why a grant does not cover a plan: account, role, region, everything it touches (invariant I11)."""
    name, aws = grant.metadata.name, grant.spec.aws
    if aws is None:
        return f"ActionGrant {name} has no aws section"
    if aws.account != plan.account or aws.role_arn != plan.role:
        return f"ActionGrant {name} is for another account or role now"
    if plan.region not in aws.regions:
        return f"ActionGrant {name} does not list region {plan.region}"
    outside = [arn for arn in plan.touches if not matches(arn, aws.resources)]
    return f"ActionGrant {name} does not list {outside[0]} in aws.resources" if outside else None


def grant_missing(facts: GateFacts) -> GateVerdict | None:
    """No grant covers the plan's action, region and everything it touches (invariant I11)."""
    if facts.grant is None:
        return _blocks("GrantMissing", f"no ActionGrant permits {facts.plan.action} here; ask a platform admin for one")
    why = outside_grant(facts.plan, facts.grant)
    return None if why is None else _blocks("GrantMissing", why)


def grant_suspended(facts: GateFacts) -> GateVerdict | None:
    """Somebody halted everything under this grant."""
    suspended = facts.grant.spec.suspended if facts.grant is not None else None
    if suspended is None or facts.grant is None:
        return None
    return _blocks("GrantSuspended", f"ActionGrant {facts.grant.metadata.name} is suspended: {suspended.reason}")


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


def admission_unproven(facts: GateFacts) -> GateVerdict | None:
    """It is not proven that admission checks who says what: then nobody's word can be trusted."""
    return None if facts.admission is None else _blocks("AdmissionUnproven", facts.admission)


def approval_missing(facts: GateFacts) -> GateVerdict | None:
    """A person must agree: by risk, by tier, by hazard, by what is not known, or since users are well."""
    why = _why_ask(facts)
    if why is None or (is_enough(facts.agreeing, facts.rule) and not _lacks_glass(facts)):
        return None
    return _blocks("ApprovalMissing", f"{why}; {told_progress(facts.agreeing, facts.rule)}")


def _lacks_glass(facts: GateFacts) -> bool:
    """Tell whether nobody broke the glass yet where that is needed, however many agree."""
    return facts.plan.needs_break_glass and not any(a.break_glass for a in facts.agreeing)


def _why_ask(facts: GateFacts) -> str | None:
    plan = facts.plan
    if plan.needs_break_glass:
        return "it is never automatic, and who agrees must break the glass (--break-glass, with a reason)"
    if plan.revert_of is not None:
        return "putting a settled fix back is a change of its own"
    if plan.ask_because:
        return f"a person must agree: {', '.join(plan.ask_because)}"
    # Confidentiality says who agrees where somebody must; it is no risk: evidence is collected by itself.
    if plan.tier == Tier.SECURITY and not plan.confidential:
        return f"tier {plan.tier} is never automatic"
    never = [hazard for hazard in plan.hazards if hazard in {Hazard.EXPOSES_DATA, Hazard.LOSES_DATA}]
    if never:
        return f"a plan with hazard {never[0]} is never automatic"
    ceiling = ceilings(facts).apply_up_to
    if not at_most(plan.risk, ceiling):
        return f"risk {plan.risk} is above applyUpTo {ceiling}"
    if facts.baseline is not None and facts.baseline.state == "Passing":
        return "users were well before anything was touched (baseline Passing)"
    return None


def frozen(facts: GateFacts) -> GateVerdict | None:
    """The grant says that nothing be changed in this time."""
    for freeze in facts.grant.spec.freezes if facts.grant is not None else ():
        if freeze.since <= facts.now < freeze.until:
            return _blocks("Frozen", f"frozen until {freeze.until:%Y-%m-%d %H:%M}Z: {freeze.reason}", hard=False)
    return None


def cooldown(facts: GateFacts) -> GateVerdict | None:
    """The policy that started the run acted a short while ago."""
    until = facts.cooldown_until
    if until is None or facts.now >= until:
        return None
    return _blocks("Cooldown", f"the policy rests until {until:%H:%M:%S}Z after its last run", hard=False)


def circuit_open(facts: GateFacts) -> GateVerdict | None:
    """The policy that started the run failed too often in a row."""
    if not facts.circuit_open:
        return None
    return _blocks("CircuitOpen", "too many runs of this policy failed in a row: a person must look", hard=False)


def runbook_stale(facts: GateFacts) -> GateVerdict | None:
    """The runbook is not Fresh: a review is overdue, or it is archived. Its checks stay, its fixes ask."""
    if not facts.runbook_stale:
        return None
    message = "the runbook is not Fresh: its condition says whose review is overdue (kubectl incident runbooks)"
    return _blocks("RunbookStale", message, hard=False)


def health_budget(facts: GateFacts) -> GateVerdict | None:
    """The plan would leave fewer healthy than there must be, and than there are."""
    capacity = facts.plan.capacity
    if capacity is None:
        return None
    floor = min(capacity.minimum, capacity.healthy_before)
    if capacity.healthy_after >= floor:
        return None
    message = f"{capacity.healthy_after} would be healthy of {capacity.healthy_before} now; at least {floor} must be"
    return _blocks("HealthBudget", message, hard=False)


def common_cause(facts: GateFacts) -> GateVerdict | None:
    """Every target fails alike: what they share is broken, and replacing some is no cure."""
    if not facts.plan.common_cause:
        return None
    return _blocks("CommonCause", "all targets fail alike: look for what they share before replacing any", hard=False)


#: Of a database's connections, at most so many may be used after a plan. Source: design §4.
DOWNSTREAM_SHARE = 0.8


def downstream_budget(facts: GateFacts) -> GateVerdict | None:
    """What the plan adds would use more of the database's connections than it bears."""
    downstream = facts.plan.downstream
    if downstream is None or downstream.used + downstream.added <= DOWNSTREAM_SHARE * downstream.maximum:
        return None
    would = f"{downstream.used + downstream.added} of {downstream.maximum} database connections"
    return _blocks("DownstreamBudget", f"{would} would be used; at most {DOWNSTREAM_SHARE:.0%} may be", hard=False)


#: How actions are called that write evidence down, and why one of them may have nothing left to do.
_EVIDENCE, _WRITTEN_BEFORE = "evidence.", "AlreadyCollected"
#: States of a fix that comes to its end by itself.
_UNDER_WAY = frozenset(
    {FixState.PENDING, PlanState.PROPOSED, PlanState.APPROVED, PlanState.APPLYING, PlanState.VERIFYING}
)


def is_written(fix: FixStatus) -> bool:
    """Tell whether it is proven that a fix's evidence is there: written in this run, or found there."""
    before = fix.state == FixState.NOT_APPLICABLE and fix.reason == _WRITTEN_BEFORE
    return before or fix.state == PlanState.HELPED


def evidence_missing(facts: GateFacts) -> GateVerdict | None:
    """What the plan takes away warns whoever has it, and the run's evidence is not written yet.

    Not needed is an answer only without a reason: with one, a check that could call for it gave no answer, or what
    called for it is gone and it was never written.
    """
    if not facts.plan.evidence_first:
        return None
    for fix in facts.fixes:
        needless = fix.state == FixState.NOT_NEEDED and fix.reason is None
        if not fix.action.startswith(_EVIDENCE) or needless or is_written(fix):
            continue
        why = f" ({fix.reason})" if fix.reason else ""
        if fix.message and fix.state in (FixState.NOT_NEEDED, FixState.NOT_APPLICABLE):
            why = f", {fix.message[:300]}"
        said = f"{fix.name} is left out" if fix.name in facts.skipped else f"{fix.name} is {fix.state}{why}"
        message = f"{said}: the evidence is to be written before anybody is warned; {_to_do(fix, facts)}"
        return _blocks("EvidenceMissing", message, hard=False)
    return None


def _to_do(fix: FixStatus, facts: GateFacts) -> str:
    """Return what people can do about evidence that is not written."""
    if fix.name in facts.skipped:
        return "have it done after all (retry), or approve with --override EvidenceMissing"
    if fix.state in _UNDER_WAY:
        return "wait for it"
    first = "see to what blocks it" if fix.state == FixState.BLOCKED else "mend that"
    return f"{first}, or approve with --override EvidenceMissing"


#: In the order in which they are shown.
GATES: tuple[Gate, ...] = (
    runbook_invalid,
    grant_missing,
    grant_suspended,
    risk_above_ceiling,
    permission_missing,
    admission_unproven,
    not_leader,
    # Before the one that asks for approvals: a run shows the first, and whoever agrees must know it.
    evidence_missing,
    approval_missing,
    frozen,
    cooldown,
    circuit_open,
    runbook_stale,
    health_budget,
    common_cause,
    downstream_budget,
)


def ceilings(facts: GateFacts) -> Automation:
    """Return the effective automation: the minimum of run and grant."""
    grant = facts.grant.spec.automation if facts.grant is not None else Automation(ask_up_to=Risk.NONE)
    return effective(facts.run_automation, grant)


def closed(facts: GateFacts, gates: Sequence[Gate] = GATES) -> tuple[GateVerdict, ...]:
    """Return every gate that blocks, less the soft ones that enough people overrode; empty means: go."""
    talked_away = overridden(facts.agreeing, facts.rule)
    found = [verdict for gate in gates if (verdict := gate(facts)) is not None]
    return tuple(v for v in found if v.hard or v.name not in talked_away)


def can_open(gates: Sequence[GateVerdict]) -> bool:
    """Tell whether people's words or time can open all of these: then a plan is worth waiting for."""
    return all(not gate.hard or gate.name in PASSING or gate.name == "ApprovalMissing" for gate in gates)
