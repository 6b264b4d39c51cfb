"""What a fix proposes (`PlanDraft`), before the core completes it into a `RemediationPlan`.

An action knows its target system; the core knows the grant, the run and the hash. A draft is what passes
between them. Vocabulary: a *draft* becomes a *plan* in `core.planning`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.meta import Risk
from ..api.plan import Call, Capacity, DiffLine, Downstream, Hazard, Precondition, Undo, Verify

_NOTHING = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class GrantedAccess:
    """Access that a draft would give: one action of one role on one resource; compared with `restorable`."""

    role: str
    action: str
    resource: str


@dataclass(frozen=True, kw_only=True)
class GrantedPath:
    """A way that a draft would open: TCP from one security group to a port of another, by their ids."""

    source: str
    target: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Who took the access away that a draft would give back.

    Shape: `actor` is an IAM ARN (assumed-role ARNs included) or None while nobody can name them.
    """

    actor: str | None
    at: datetime | None = None
    event: str = ""


@dataclass(frozen=True, kw_only=True)
class PlanDraft:
    """One fix, as its action proposes it.

    Shape: `calls` in the order of execution; `touches` are the ARNs that change; `undo` or `irreversible`, one of
    them; `region` None means the run's. `grants` and `removals` are for drafts with the GrantsAccess hazard:
    the core asks people unless all of `grants` is restorable and every removal's actor is known and unprotected.
    `ask_because` are further reasons (CamelCase) why a person must agree. `candidates` are ARNs that the calls may act
    on, at most `max_targets` of them: a call's argument names them with `{fromTargets: {}}`. `capacity`, `downstream`
    and `common_cause` are what the soft gates of those names judge. `evidence_first`: whoever is contained is warned by
    it, so the run's evidence is to be written before (gate EvidenceMissing). `needs_break_glass`: however many agree,
    one of them must break the glass.
    """

    title: str
    calls: tuple[Call, ...]
    touches: tuple[str, ...]
    risk: Risk
    verify: Verify
    diff: tuple[DiffLine, ...]
    hazards: tuple[Hazard, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    undo: Undo | None = None
    irreversible: str | None = None
    revert_if_worse: bool = False
    region: str | None = None
    grants: tuple[GrantedAccess | GrantedPath, ...] = ()
    removals: tuple[Removal, ...] = ()
    ask_because: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    max_targets: int | None = None
    capacity: Capacity | None = None
    downstream: Downstream | None = None
    common_cause: bool = False
    evidence_first: bool = False
    needs_break_glass: bool = False


@dataclass(frozen=True, kw_only=True)
class NotApplicable:
    """Why a fix does not fit what was observed. `reason` is CamelCase and declared by the action.

    Shape: `for_now` says that time alone may end it (a failover under way, sessions that are not idle for long enough
    yet), so that a run looks again before it ends.
    """

    reason: str
    message: str
    for_now: bool = False


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the facts after a fix say about it.

    Shape: `outcome` "Helped", "Worse" or None (not yet to be told). `measured` says whether the fix's signal
    could be read at all: at the deadline None becomes NoEffect if it was, Inconclusive if not. `waiting_for`
    names what is missing, for people ("traffic on LIVE").
    """

    outcome: str | None
    measured: bool
    message: str
    waiting_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a fix is waited for: judged first `wait` after its last call, then `every` so often, until `deadline`.

    Units: real durations, counted from the last call. `longer` says in words what a plan may add to them; empty:
    nothing. Source: facts on verification, per fix.
    """

    wait: timedelta
    every: timedelta
    deadline: timedelta
    longer: str = ""

    def verify(self, signal: str, *, first: timedelta = _NOTHING, at_least: timedelta = _NOTHING) -> Verify:
        """Return them as a plan says them, with what proves the fix. `first` is waited before, too."""
        return Verify(signal=signal, wait=first + self.wait, every=self.every, deadline=max(self.deadline, at_least))
