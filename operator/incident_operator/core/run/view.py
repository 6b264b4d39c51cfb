"""What the decisions for a run may know, and what they can ask to be done.

A *round* is one diagnosis in this process: the checks' answers, then what the fixes propose. It lives in memory, is
read-only here and is simply made again after a restart, since reading is free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ...api.intervention import Intervention
from ...api.meta import Risk
from ...api.plan import GateVerdict, PlanState, RemediationPlan
from ...api.run import CheckStatus, Finding, FixState, Impact, IncidentRun, IncidentRunStatus, Now, RunPhase
from ...api.runbook import IfNoHelp, RunbookSpec
from ..approval import Answer
from ..schedule import Timing
from ..story import Tell

FINALIZER = "ops.shopsmart.com/run"
START_DEADLINE = timedelta(hours=1)

RoundKind = Literal["Full", "Recovery"]
#: What users feel now.
Recovery = Literal["Passing", "Failing", "Unknown"]

ENDS = frozenset(
    {
        RunPhase.RESOLVED,
        RunPhase.NOTHING_FOUND,
        RunPhase.UNRESOLVED,
        RunPhase.CANCELLED,
        RunPhase.EXPIRED,
        RunPhase.FAILED,
    }
)
#: Reasons of a check's Error that pass by themselves.
PASSING_ERRORS = frozenset({"Throttled", "Timeout", "Unreachable"})
#: Ends of a plan after which it is not known what holds: automation stops until a person says Keep, Skip or Retry.
STOPPED = frozenset({PlanState.INCONCLUSIVE, PlanState.UNKNOWN, PlanState.UNDO_BLOCKED})
#: States in which a plan changes, or may have changed, the world and is not judged yet.
ACTING = frozenset({PlanState.APPLYING, PlanState.VERIFYING, PlanState.REVERTING})
#: Ends of a plan that did harm.
HARMED = frozenset({PlanState.WORSE, PlanState.REVERTED})


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check's answer and what it found."""

    status: CheckStatus
    findings: tuple[Finding, ...] = ()
    #: When the same look could say more (CloudTrail catches up).
    retry_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FixResult:
    """What a fix proposes: a plan to store, or why not. `gates` are those that close it now.

    Shape: `for_now` is of one that is NotApplicable, where time alone may end that.
    """

    name: str
    plan: RemediationPlan | None = None
    state: FixState = FixState.NOT_NEEDED
    reason: str | None = None
    message: str = ""
    gates: tuple[GateVerdict, ...] = ()
    for_now: bool = False


@dataclass(frozen=True, kw_only=True)
class Round:
    """One diagnosis under way. Full asks every check and every fix; Recovery only what recovery rests on."""

    kind: RoundKind
    started_at: datetime
    checks: Mapping[str, CheckResult] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    planning: bool = False
    fixes: Mapping[str, FixResult] | None = None
    impact: Impact | None = None
    stored: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a run can't be accepted (yet)."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class RunView:
    """All that the decision may know.

    Shape: `runbook` and `revision` are None with a `refusal`. `dependencies` has every check of the runbook with the
    checks it reads. `plans` are all plans of this run that are known, in any order. `words` are the interventions on
    the run, and on its plans that have settled, that nobody answered, oldest first. `admission` says why it is not
    proven that people's words are checked.
    """

    run: IncidentRun
    runbook: RunbookSpec | None = None
    revision: str | None = None
    refusal: Refusal | None = None
    dependencies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    plans: tuple[RemediationPlan, ...] = ()
    round: Round | None = None
    words: tuple[Intervention, ...] = ()
    admission: str | None = None
    timing: Timing = field(default_factory=Timing)
    observe_only: bool = False
    #: What a person did by hand since the run began, as they wrote it down in the incident.
    by_hand: str | None = None


@dataclass(frozen=True)
class StartRound:
    """Begin a diagnosis."""

    kind: RoundKind


@dataclass(frozen=True)
class RunChecks:
    """Ask these checks now."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PlanFixes:
    """See which fixes apply to what was found, and plan them."""


@dataclass(frozen=True)
class StorePlans:
    """Create the plans of this round; existing ones of the same name are the same plan."""


@dataclass(frozen=True)
class EndRound:
    """Forget the round: it is in status now."""


@dataclass(frozen=True)
class Protect:
    """Put the finalizer on the run: a plan of it is about to be applied, and deleting the run means Cancel."""


@dataclass(frozen=True)
class Unprotect:
    """Remove the finalizer: no plan of the run is under way."""


RunEffect = StartRound | RunChecks | PlanFixes | StorePlans | EndRound | Protect | Unprotect | Answer | Tell


@dataclass(frozen=True, kw_only=True)
class RunDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: IncidentRunStatus
    effects: tuple[RunEffect, ...] = ()
    wake_at: datetime | None = None


def detected_at(run: IncidentRun, now: datetime) -> datetime:
    """Return when the incident was detected: as written, else the object's creation. Source: decision 3."""
    return run.spec.incident.detected_at or run.metadata.creation_timestamp or now


def is_observe_only(run: IncidentRun) -> bool:
    """Tell whether the run may change nothing at all."""
    return run.spec.drill or run.spec.automation.ask_up_to == Risk.NONE


def plan_attempt(plans: tuple[RemediationPlan, ...], fix: str) -> int:
    """Return the number of the next attempt at a fix, or that of its unsettled plan. Source: decision 13."""
    mine = [p for p in plans if p.spec.fix == fix and p.spec.revert_of is None]
    open_ = [p for p in mine if not p.status.settled]
    if open_:
        return max(p.spec.attempt for p in open_)
    return max((p.spec.attempt for p in mine), default=0) + 1


def outputs(checks: Mapping[str, CheckResult]) -> dict[str, Any]:
    """Return what expressions see of the checks: `{name: {output: …}}`."""
    return {name: {"output": result.status.output or {}} for name, result in checks.items()}


def stopped(view: RunView) -> tuple[RemediationPlan, ...]:
    """Return the plans whose end stops automation, and that no person waived."""
    asks = {f.name for f in view.runbook.fixes if f.if_no_help == IfNoHelp.ASK} if view.runbook else set()
    return tuple(
        p
        for p in view.plans
        if p.metadata.name not in view.run.status.waived
        and (p.status.state in STOPPED | HARMED or (p.status.state == PlanState.NO_EFFECT and p.spec.fix in asks))
    )


def command(run: IncidentRun, verb: str, *more: str) -> str:
    """Return a command of ours about this run, to paste."""
    return " ".join(("kubectl incident", verb, f"-n {run.metadata.namespace}", run.metadata.name, *more))


def applying(run: IncidentRun, plan: RemediationPlan) -> Now:
    """Return what a run says while its plan is applied."""
    return Now(
        doing=f"applying: {plan.spec.title}",
        waiting_for=plan.metadata.name,
        next=(command(run, "plan"), command(run, "watch")),
    )
