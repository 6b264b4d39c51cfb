"""What the decisions for a plan may know, and what they can ask to be done."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from ...api.grant import ActionGrant, Approvals
from ...api.intervention import Intervention
from ...api.meta import Severity
from ...api.plan import CallState, GateVerdict, PlanState, RemediationPlan, RemediationPlanStatus
from ...api.run import IncidentRun
from ..approval import Answer, Asked
from ..draft import Judgement
from ..schedule import Timing
from ..story import Tell

Phase = Literal["Apply", "Undo"]

#: Ends: nothing is called after them (invariant I3).
TERMINAL = frozenset(
    {
        PlanState.HELPED,
        PlanState.NO_EFFECT,
        PlanState.WORSE,
        PlanState.INCONCLUSIVE,
        PlanState.REVERTED,
        PlanState.UNDO_BLOCKED,
        PlanState.REJECTED,
        PlanState.SUPERSEDED,
        PlanState.EXPIRED,
        PlanState.UNKNOWN,
    }
)
#: States of a call that took effect.
DONE = frozenset({CallState.SUCCEEDED, CallState.OBSERVED})
#: Error codes after which a call that may be repeated is worth repeating with a fresh guard.
RETRYABLE = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ResourceConflictException",
        "ConcurrentModification",
        "ConcurrentModificationException",
        "PreconditionFailedException",
        "PreconditionFailed",
    }
)
#: Ours: surely not sent, so that even a Once call may still be made.
NOT_SENT = frozenset({"NotLeader", "NotSentInTime", "GrantSuspended", "GrantUnknown"})
#: An intent whose own write lost its answer uses up one of them, though nothing was sent: on a network where every
#: fourth write does, four were not enough.
MAX_ATTEMPTS = 6
RETRY_AFTER = timedelta(seconds=2)
#: How soon to look again for a gate that opens by itself.
BLOCKED_EVERY = timedelta(seconds=10)
FINALIZER = "ops.shopsmart.com/undo"
#: People's clock, never scaled: how long anybody is asked.
APPROVAL_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True, kw_only=True)
class Replanned:
    """What looking again just before the first call showed.

    Shape: without `gates` the locks are held and the finalizer is in place. `targets` are the approved candidates that
    still match.
    """

    at: datetime
    same: bool
    reason: str = ""
    message: str = ""
    pre_image: Any = None
    gates: tuple[GateVerdict, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came of a call made by this process. `definite` False: it may or may not have taken effect."""

    phase: Phase
    index: int
    attempt: int
    ok: bool
    definite: bool = True
    code: str | None = None
    request_id: str | None = None
    result: Any = None
    #: What the undo's guards read right after it; None where they could not be read.
    post_image: Any = None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What looking for an orphan's effect showed; None: the facts can't tell.

    `world_changed`: the call had no effect, and the plan would not be the same today.
    """

    phase: Phase
    index: int
    attempt: int
    applied: bool | None
    world_changed: str = ""
    post_image: Any = None


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """What the calls so far have not brought about yet, before the call of this index may be made; empty: go."""

    at: datetime
    index: int
    missing: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What verification showed at an instant."""

    at: datetime
    judgement: Judgement
    evidence: Any = None


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """What the undo's guards showed just before it. Shape: `changed` is empty where all read as after the fix."""

    at: datetime
    changed: str = ""
    gates: tuple[GateVerdict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """All that the decision may know.

    Shape: `run` is None when it is gone; `grant` None when none permits the action any more. `words` are the
    interventions on this plan that nobody answered, oldest first. `admission` says why it is not proven that people's
    words are checked. The optional observations were made by this process since the stored status was read; `busy`
    says that an effect of this process for this plan is under way.
    """

    plan: RemediationPlan
    run: IncidentRun | None
    grant: ActionGrant | None
    words: tuple[Intervention, ...] = ()
    admission: str | None = None
    leading: bool = True
    runbook_stale: bool = False
    #: Of the policy that started the run.
    cooldown_until: datetime | None = None
    circuit_open: bool = False
    epoch: int
    holder: str
    call_timeout: timedelta
    timing: Timing
    busy: bool = False
    replanned: Replanned | None = None
    answered: Answered | None = None
    observed: Observed | None = None
    awaited: Awaited | None = None
    judged: Judged | None = None
    guarded: Guarded | None = None

    @property
    def run_state(self) -> Literal["Active", "Idle", "Over"]:
        """Whether the run holds the baton for this plan (Active), waits (Idle), or has ended or is gone (Over)."""
        run = self.run
        if run is None or run.metadata.uid != self.plan.spec.run_ref.uid or run.status.settled:
            return "Over"
        return "Active" if run.status.active_plan == self.plan.metadata.name else "Idle"

    @property
    def is_on_its_own(self) -> bool:
        """Whether the plan may act after its run: it puts a settled plan back, or its temporary fix ends."""
        return self.plan.spec.revert_of is not None or self.plan.status.temporary is not None

    @property
    def asked(self) -> Asked:
        """Who asked for the change, and who must agree."""
        approvals = self.grant.spec.approvals if self.grant is not None else Approvals()
        run = self.run
        return Asked(
            requester=run.spec.requested_by if run else None,
            severity=run.spec.incident.severity if run else Severity.P3,
            rule=approvals.rule(self.plan.spec.tier),
        )


@dataclass(frozen=True)
class Replan:
    """Observe again and compare with the plan (WorldChanged)."""


@dataclass(frozen=True)
class Execute:
    """Make the call that the stored journal names as intended."""

    phase: Phase
    index: int
    attempt: int


@dataclass(frozen=True)
class Look:
    """Look whether an orphaned call took effect."""

    phase: Phase
    index: int
    attempt: int


@dataclass(frozen=True)
class Await:
    """Look whether the world is ready for the call of this index."""

    index: int


@dataclass(frozen=True)
class Judge:
    """Observe since the last call, and judge."""


@dataclass(frozen=True)
class CheckUndo:
    """Look whether what the undo rests on is still as the fix left it, and take the locks."""


@dataclass(frozen=True)
class Unprotect:
    """Remove the finalizer: nothing is left to do for this plan."""


PlanEffect = Replan | Execute | Look | Await | Judge | CheckUndo | Unprotect | Answer | Tell
#: Effects that take a while: one at a time for a plan.
SLOW = (Replan, Execute, Look, Await, Judge, CheckUndo)


@dataclass(frozen=True, kw_only=True)
class PlanDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: RemediationPlanStatus
    effects: tuple[PlanEffect, ...] = ()
    wake_at: datetime | None = None
