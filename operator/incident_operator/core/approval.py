"""People's words on a plan: which count, who must agree, and when enough have.

Vocabulary: a *word* is an `Intervention` nobody answered yet; an *answer* says whether it counts, and if not, why.
The API server has proven who said it and that they may (admission); what is judged here is whether it fits this plan
now. Source: design §2 Intervention and ActionGrant.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..api.grant import ApprovalRule
from ..api.intervention import Intervention, Verb
from ..api.meta import Severity
from ..api.plan import Approval, PlanState, RemediationPlan

#: Gates that an approval may name in `override`. Source: design §4.
SOFT = frozenset(
    {
        *("Frozen", "Cooldown", "CircuitOpen", "RunbookStale"),
        *("HealthBudget", "CommonCause", "DownstreamBudget", "EvidenceMissing"),
    }
)
OPEN_STATES = frozenset({PlanState.PROPOSED, PlanState.APPROVED})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a word: an effect, performed once what it came to is stored."""

    word: str
    effective: bool
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asked for the change, and by which rule people agree to it.

    Shape: `requester` None where the run does not say; then every approver may be the one who asked.
    """

    requester: str | None
    severity: Severity
    rule: ApprovalRule


def said_at(word: Intervention) -> datetime:
    """Return when a word was said: the API server's own instant. Errors: ValueError for an object never stored."""
    at = word.metadata.creation_timestamp
    if at is None:
        raise ValueError(f"intervention {word.metadata.name} was never stored")
    return at


def agreed(word: Intervention) -> Answer:
    """Return the answer to a word that took effect: its verb, in the past tense."""
    past = {
        Verb.APPROVE: "Approved",
        Verb.REJECT: "Rejected",
        Verb.REVERT: "Reverting",
        Verb.KEEP: "Kept",
        Verb.PAUSE: "Paused",
        Verb.RESUME: "Resumed",
        Verb.RETRY: "Retrying",
        Verb.SKIP: "Skipped",
        Verb.CANCEL: "Cancelled",
        Verb.NOTE: "Noted",
        Verb.ACKNOWLEDGE: "Acknowledged",
        Verb.TAKE_COMMAND: "CommandTaken",
        Verb.SET_SEVERITY: "SeveritySet",
        Verb.SET_IMPACT: "ImpactSet",
        Verb.SET_ROOT_CAUSE: "RootCauseSet",
        Verb.RECORD_ACTION: "ActionRecorded",
        Verb.DUPLICATE: "MarkedDuplicate",
        Verb.FALSE_POSITIVE: "MarkedFalsePositive",
        Verb.RESOLVE: "ResolvedByPerson",
        Verb.PUBLISH: "Publishing",
    }
    return Answer(word=word.metadata.name, effective=True, reason=past[word.spec.verb], message="")


def refused(word: Intervention, reason: str, message: str) -> Answer:
    """Return the answer to a word that does not count."""
    return Answer(word=word.metadata.name, effective=False, reason=reason, message=message)


def in_force(approvals: Iterable[Approval], now: datetime) -> tuple[Approval, ...]:
    """Return the approvals that have not run out."""
    return tuple(a for a in approvals if now < a.expires_at)


def is_enough(approvals: Iterable[Approval], rule: ApprovalRule) -> bool:
    """Tell whether these agree: as many distinct people as the rule asks for, or one who broke the glass."""
    counted = tuple(approvals)
    return any(a.break_glass for a in counted) or len({a.responder for a in counted}) >= rule.approvers


def overridden(approvals: Iterable[Approval], rule: ApprovalRule) -> frozenset[str]:
    """Return the soft gates that do not block: those that enough people named, not just one of two."""
    counted = tuple(approvals)
    named = {gate for a in counted for gate in a.override}
    return frozenset(gate for gate in named if is_enough([a for a in counted if gate in a.override], rule))


def told_progress(approvals: Sequence[Approval], rule: ApprovalRule) -> str:
    """Return how far agreement is, for people: `1 of 2 people agree (alice)`."""
    who = sorted({a.responder for a in approvals})
    people = "person agrees" if rule.approvers == 1 else "people agree"
    return f"{len(who)} of {rule.approvers} {people}" + (f" ({', '.join(who)})" if who else "")


def decide_approval(
    word: Intervention, plan: RemediationPlan, known: Sequence[Approval], asked: Asked, now: datetime
) -> tuple[Approval | None, Answer]:
    """Judge one Approve. Returns the approval to store (None where it does not count, or is stored) and the answer.

    Shape: `known` are the approvals stored and those accepted before this word in the same decision.
    """
    spec, said = word.spec, said_at(word)
    if any(a.intervention == word.metadata.name for a in known):
        return None, _approved(word, known, asked.rule)
    reason_message = _void(word, plan, known, asked, now)
    if reason_message is not None:
        return None, refused(word, *reason_message)
    approval = Approval(
        responder=spec.responder,
        intervention=word.metadata.name,
        at=said,
        expires_at=said + asked.rule.valid_for,
        tier=plan.spec.tier,
        override=spec.override,
        break_glass=spec.break_glass,
        reason=spec.reason,
    )
    return approval, _approved(word, (*known, approval), asked.rule)


def _approved(word: Intervention, known: Sequence[Approval], rule: ApprovalRule) -> Answer:
    message = told_progress(known, rule)
    if not is_enough(known, rule):
        message += "; another person must agree"
    return Answer(word=word.metadata.name, effective=True, reason="Approved", message=message)


def _void(
    word: Intervention, plan: RemediationPlan, known: Sequence[Approval], asked: Asked, now: datetime
) -> tuple[str, str] | None:
    """Return why an Approve does not count; None where it does."""
    spec, state = word.spec, plan.status.state
    if spec.target.uid != plan.metadata.uid:
        return "WrongUID", f"{plan.metadata.name} is another object of that name now: read it and approve it anew"
    if state == PlanState.SUPERSEDED:
        return "PlanChanged", f"{plan.metadata.name} was replaced before you agreed: {plan.status.message}"
    if state not in OPEN_STATES:
        return "TooLate", f"the plan is {state} already"
    if spec.tier != plan.spec.tier:
        return "TierMismatch", f"you approved tier {spec.tier}, the plan's tier is {plan.spec.tier}"
    if now >= said_at(word) + asked.rule.valid_for:
        return "Expired", "an approval of this tier holds for a limited time, which has passed: approve it again"
    if any(a.responder == spec.responder for a in in_force(known, now)):
        return "SamePerson", f"{spec.responder} agreed already: another person must"
    hard = [gate for gate in spec.override if gate not in SOFT]
    if hard:
        return "NotOverridable", f"{hard[0]} can't be overridden; what can: {', '.join(sorted(SOFT))}"
    if spec.break_glass or asked.rule.lets_requester(asked.severity):
        return None
    if asked.requester is None:
        return "SelfApproval", "the run does not say who asked for it, so it may have been you: break the glass"
    if asked.requester == spec.responder:
        return (
            "SelfApproval",
            f"{spec.responder} asked for this run: another person must agree to its {spec.tier} plans",
        )
    return None
