"""RemediationPolicy: when health counts as lost or back, which run that starts, and what keeps it from starting.

An *episode* is a loss of health. It is stored with the name of its run before the run is created, and the name comes
from the policy's UID and the episode's number: whoever creates it again meets the same run. A *sample* is one round of
the health checks. Nothing is written while a healthy policy stays healthy: counts stop at their threshold, and when it
is asked next follows from its UID, so that it need not be stored.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from ..api.meta import Metadata, OwnerReference
from ..api.policy import (
    Circuit,
    Consecutive,
    Episode,
    RemediationPolicy,
    RemediationPolicyStatus,
    RunsToday,
    StartedRun,
)
from ..api.run import CheckState, CheckStatus, IncidentDetails, IncidentRun, IncidentRunSpec, RunPhase
from .conditions import with_condition
from .schedule import Timing, latest
from .story import Tell
from .windows import closed_until, problem

#: A person closes the circuit by giving it another value.
CLOSE_CIRCUIT = "ops.shopsmart.com/close-circuit"
POLICY_LABEL = "ops.shopsmart.com/policy"
#: Ends of a run that open the circuit when they follow each other.
FAILED_ENDS = frozenset({RunPhase.UNRESOLVED, RunPhase.FAILED})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class NotReady:
    """Why a policy can't be worked with (yet): then nothing is read, and no run is started."""

    reason: Literal[
        "RunbookNotFound",
        "RunbookInvalid",
        "RunbookArchived",
        "ParametersInvalid",
        "HealthInvalid",
        "WindowInvalid",
        "GrantMissing",
    ]
    message: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the health checks answered. Shape: `at` is when they were begun to be asked."""

    at: datetime
    checks: tuple[CheckStatus, ...]


@dataclass(frozen=True, kw_only=True)
class PolicyView:
    """All that the decision may know.

    Shape: `runs` has each run of `status.runs` by name, None where the API server has none of that name. `since` is
    when this process took the policy up, `looked_at` when it last had an answer of the checks.
    """

    policy: RemediationPolicy
    since: datetime
    not_ready: NotReady | None = None
    sample: Sample | None = None
    busy: bool = False
    looked_at: datetime | None = None
    runs: Mapping[str, IncidentRun | None] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True)
class AskHealth:
    """Ask the health checks."""


@dataclass(frozen=True)
class CreateRun:
    """Create the run of an episode; one of this name is that run."""

    run: StartedRun


PolicyEffect = AskHealth | CreateRun | Tell


@dataclass(frozen=True, kw_only=True)
class PolicyDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: RemediationPolicyStatus
    effects: tuple[PolicyEffect, ...] = ()
    wake_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The guardrail that keeps a run from being started."""

    reason: Literal[
        "Suspended", "CircuitOpen", "Frozen", "MaxConcurrentRuns", "MaxRunsPerDay", "Cooldown", "NotReady", "Deleted"
    ]
    message: str


def decide_policy(view: PolicyView, now: datetime) -> PolicyDecision:
    """Return what to store of a policy now, and what follows. Total and deterministic."""
    view = _judged(view)
    status, tells = view.policy.status, list[Tell]()
    status = _with_ended_runs(view, status, now)
    status = _with_circuit(view, status, now, tells)
    status = _without_withdrawn(view, status, now)
    sample = view.sample if view.not_ready is None else None
    stop: Stop | None = None
    if sample is not None and _is_news(status, sample):
        status = _counted(view, status, sample, now, tells)
        if _is_breach(view, status):
            stop = _stopped(view, status, now) or _resting(view, status, now)
            if stop is None:
                status = _begun(view, status, now, tells)
    status = _with_conditions(view, status, stop, now, tells)
    effects: list[PolicyEffect] = [CreateRun(run) for run in status.runs if not run.uid]
    due = _due(view, now)
    if view.not_ready is None and not view.busy and due <= now:
        effects.append(AskHealth())
    wake_at = None if view.busy else max(due, now) if view.not_ready is None else _slot(view, now)
    asking = any(isinstance(effect, AskHealth) for effect in effects)
    return PolicyDecision(status=status, effects=(*effects, *tells), wake_at=None if asking else wake_at)


def _judged(view: PolicyView) -> PolicyView:
    """Return the view with what the policy's own windows make of it."""
    wrong = problem(view.policy.spec.guardrails.windows)
    if view.not_ready is not None or wrong is None:
        return view
    not_ready = NotReady(reason="WindowInvalid", message=wrong)
    return PolicyView(**{**view.__dict__, "not_ready": not_ready})


# --- when -------------------------------------------------------------------------------------------------------------


def next_slot(uid: str, interval: timedelta, after: datetime) -> datetime:
    """Return the first instant of a policy's own rhythm after another: spread by UID, the same in every process."""
    offset = timedelta(microseconds=int(hashlib.sha256(uid.encode()).hexdigest()[:12], 16)) % interval
    return _EPOCH + offset + ((after - _EPOCH - offset) // interval + 1) * interval


def _slot(view: PolicyView, after: datetime) -> datetime:
    interval = view.timing.scaled(view.policy.spec.health.interval)
    return next_slot(view.policy.metadata.uid, interval, after)


def _due(view: PolicyView, now: datetime) -> datetime:
    """Return when the checks are due: at once for a policy that was never asked."""
    if view.looked_at is None and not any(c.type == "Healthy" for c in view.policy.status.conditions):
        return now
    return _slot(view, view.looked_at or view.since)


def cooldown_until(policy: RemediationPolicy, timing: Timing) -> datetime | None:
    """Return until when a policy rests after the run of it that ended last; None where none has."""
    ended = policy.status.last_run_ended_at
    return None if ended is None else ended + timing.scaled(policy.spec.guardrails.cooldown)


# --- runs -------------------------------------------------------------------------------------------------------------


def run_name(policy: RemediationPolicy, episode: int) -> str:
    """Return the name of an episode's run, from the policy's UID and the episode's number."""
    digest = hashlib.sha256(f"{policy.metadata.uid}/{episode}".encode()).hexdigest()
    return f"{policy.metadata.name[:40].rstrip('-.')}-{digest[:10]}"


def run_of(policy: RemediationPolicy, run: StartedRun) -> IncidentRun:
    """Return the run as it is created: detected at the breach, so that one that comes too late expires.

    It is asked for by who wrote the policy: else they could agree alone to what they had asked for.
    """
    metadata, remediation = policy.metadata, policy.spec.remediation
    return IncidentRun(
        metadata=Metadata(
            name=run.name,
            namespace=metadata.namespace,
            labels={POLICY_LABEL: metadata.name[:63].rstrip("-.")},
            owner_references=(
                OwnerReference(
                    api_version=policy.api_version,
                    kind=policy.kind,
                    name=metadata.name,
                    uid=metadata.uid,
                    controller=True,
                ),
            ),
        ),
        kind="IncidentRun",
        spec=IncidentRunSpec(
            incident=IncidentDetails(
                title=remediation.title or f"{metadata.name[:200]} is not healthy",
                severity=remediation.severity,
                detected_at=run.started_at,
            ),
            runbook_ref=remediation.runbook_ref,
            parameters=remediation.parameters,
            automation=remediation.automation,
            requested_by=policy.spec.requested_by,
        ),
    )


def _is_ours(policy: RemediationPolicy, run: IncidentRun) -> bool:
    return any(owner.uid == policy.metadata.uid for owner in run.metadata.owner_references)


def _with_ended_runs(view: PolicyView, status: RemediationPolicyStatus, now: datetime) -> RemediationPolicyStatus:
    """Return the status with each run's UID once it is known, without those that ended: their ends are counted."""
    for started in status.runs:
        found = view.runs.get(started.name)
        if found is None and (not started.uid or started.name not in view.runs):
            continue
        if found is None or not _is_ours(view.policy, found) or started.uid not in ("", found.metadata.uid):
            status = _ended(status, started, "Deleted", now)
        elif found.status.settled:
            status = _ended(status, started, found.status.phase, found.status.finished_at or now)
        elif not started.uid:
            known = started.model_copy(update={"uid": found.metadata.uid})
            runs = tuple(known if run.name == started.name else run for run in status.runs)
            status = status.model_copy(update={"runs": runs})
    return status


def _ended(
    status: RemediationPolicyStatus, run: StartedRun, outcome: RunPhase | Literal["Deleted"], at: datetime
) -> RemediationPolicyStatus:
    """Return the status after the end of a run: failures must add up anew before the next one."""
    failed = status.failed_runs
    if outcome in FAILED_ENDS:
        failed += 1
    elif outcome == RunPhase.RESOLVED:
        failed = 0
    episode = status.episode
    if episode is not None and episode.run == run.name:
        episode = episode.model_copy(update={"outcome": outcome})
    counts = status.consecutive
    return status.model_copy(
        update={
            "runs": tuple(r for r in status.runs if r.name != run.name),
            "episode": episode,
            "failed_runs": failed,
            "last_run_ended_at": latest((status.last_run_ended_at, at)),
            "consecutive": counts.model_copy(update={"failures": 0, "at": latest((counts.at, at))}),
        }
    )


def _without_withdrawn(view: PolicyView, status: RemediationPolicyStatus, now: datetime) -> RemediationPolicyStatus:
    """Return the status without runs that were not created before something came to stop them."""
    for run in status.runs:
        if not run.uid and run.name in view.runs and _stopped(view, status, now) is not None:
            status = _ended(status, run, "Deleted", now)
    return status


def _begun(
    view: PolicyView, status: RemediationPolicyStatus, now: datetime, tells: list[Tell]
) -> RemediationPolicyStatus:
    """Return the status with a new episode and the name of its run, which does not exist yet."""
    number = status.episodes + 1
    run = StartedRun(name=run_name(view.policy, number), episode=number, started_at=now)
    today = _today(status, now)
    tells.append(Tell("RunStarted", f"health is lost: starting run {run.name}", warning=True))
    return status.model_copy(
        update={
            "episode": Episode(id=number, started_at=now, run=run.name),
            "episodes": number,
            "runs": (*status.runs, run),
            "last_run_at": now,
            "runs_today": today.model_copy(update={"count": today.count + 1}),
        }
    )


def _today(status: RemediationPolicyStatus, now: datetime) -> RunsToday:
    date = now.astimezone(UTC).date().isoformat()
    known = status.runs_today
    return known if known is not None and known.date == date else RunsToday(date=date, count=0)


# --- guardrails -------------------------------------------------------------------------------------------------------


def _with_circuit(
    view: PolicyView, status: RemediationPolicyStatus, now: datetime, tells: list[Tell]
) -> RemediationPolicyStatus:
    """Return the status with the circuit closed by a person's word, or opened by runs that failed in a row."""
    word = view.policy.metadata.annotations.get(CLOSE_CIRCUIT, "")[:256]
    if status.circuit is not None and word and word != status.circuit.closed_before:
        tells.append(Tell("CircuitClosed", "a person closed the circuit"))
        status = status.model_copy(update={"circuit": None, "failed_runs": 0})
    if status.circuit is None and status.failed_runs >= view.policy.spec.guardrails.stop_after_failures:
        tells.append(Tell("CircuitOpened", _circuit_message(view, status), warning=True))
        status = status.model_copy(update={"circuit": Circuit(opened_at=now, closed_before=word)})
    return status


def _circuit_message(view: PolicyView, status: RemediationPolicyStatus) -> str:
    name, namespace = view.policy.metadata.name, view.policy.metadata.namespace
    command = f'kubectl annotate rpol -n {namespace} {name} {CLOSE_CIRCUIT}="$(date)" --overwrite'
    return f"{status.failed_runs} runs in a row failed: see why, then {command}"


def _stopped(view: PolicyView, status: RemediationPolicyStatus, now: datetime) -> Stop | None:
    """Return what no run may be created against, also one whose episode is stored already."""
    if view.policy.metadata.deletion_timestamp is not None:
        return Stop(reason="Deleted", message="the policy is being deleted")
    if view.not_ready is not None:
        return Stop(reason="NotReady", message=view.not_ready.message)
    guardrails = view.policy.spec.guardrails
    if guardrails.suspend:
        return Stop(reason="Suspended", message="spec.guardrails.suspend is true")
    if status.circuit is not None:
        return Stop(reason="CircuitOpen", message=_circuit_message(view, status))
    closed, until = closed_until(guardrails.windows, now)
    if closed:
        return Stop(
            reason="Frozen",
            message="the windows allow no run" + (f" until {until:%Y-%m-%d %H:%M:%S}Z" if until else ""),
        )
    return None


def _resting(view: PolicyView, status: RemediationPolicyStatus, now: datetime) -> Stop | None:
    """Return which bound the next run would pass."""
    guardrails = view.policy.spec.guardrails
    if len(status.runs) >= guardrails.max_concurrent_runs:
        names = ", ".join(run.name for run in status.runs)
        return Stop(reason="MaxConcurrentRuns", message=f"these have not ended: {names}")
    if _today(status, now).count >= guardrails.max_runs_per_day:
        return Stop(reason="MaxRunsPerDay", message=f"{guardrails.max_runs_per_day} were started on this day (UTC)")
    last = latest((status.last_run_at, status.last_run_ended_at))
    until = last + view.timing.scaled(guardrails.cooldown) if last is not None else now
    if now < until:
        return Stop(reason="Cooldown", message=f"resting until {until:%Y-%m-%d %H:%M:%S}Z after the last run")
    return None


# --- health -----------------------------------------------------------------------------------------------------------


def _is_news(status: RemediationPolicyStatus, sample: Sample) -> bool:
    """Tell whether a sample was not counted yet; instants are stored in milliseconds."""
    counted = status.consecutive.at
    return counted is None or sample.at.replace(microsecond=sample.at.microsecond // 1000 * 1000) > counted


def _counted(
    view: PolicyView, status: RemediationPolicyStatus, sample: Sample, now: datetime, tells: list[Tell]
) -> RemediationPolicyStatus:
    """Return the status with one more sample: some check failed, all passed, or neither."""
    health, old = view.policy.spec.health, status.consecutive
    failed = [check for check in sample.checks if check.state == CheckState.FAILED]
    if failed:
        counts = Consecutive(failures=min(old.failures + 1, health.failure_threshold))
    elif all(check.state == CheckState.PASSED for check in sample.checks):
        counts = Consecutive(successes=min(old.successes + 1, health.success_threshold))
    else:
        unknown = min(old.unknown + 1, health.failure_threshold)
        counts = old.model_copy(update={"unknown": unknown})
    if counts.model_copy(update={"at": old.at}) != old:
        status = status.model_copy(update={"consecutive": counts.model_copy(update={"at": sample.at})})
    state, reason, shown = None, "NoAnswer", [c for c in sample.checks if c.state != CheckState.PASSED]
    if failed and counts.failures >= health.failure_threshold:
        state, reason, shown = False, "Failing", failed
    elif counts.successes >= health.success_threshold and not shown:
        state, reason = True, "Passing"
        if status.episode is not None:
            tells.append(Tell("Recovered", f"every check passes again: episode {status.episode.id} is over"))
            status = status.model_copy(update={"episode": None})
    elif failed or counts.unknown < health.failure_threshold:
        return status
    message = "every check passes" if state else ", ".join(f"{c.name}: {c.reason or c.state}" for c in shown)
    conditions = with_condition(
        status.conditions, "Healthy", state, reason, message, now, view.policy.metadata.generation
    )
    return status.model_copy(update={"conditions": conditions})


def _is_breach(view: PolicyView, status: RemediationPolicyStatus) -> bool:
    """Tell whether health is lost, and no run was started for that yet or the last one ended without a cure."""
    lost = status.consecutive.failures >= view.policy.spec.health.failure_threshold
    return lost and (status.episode is None or status.episode.outcome is not None)


# --- conditions -------------------------------------------------------------------------------------------------------


def _with_conditions(
    view: PolicyView, status: RemediationPolicyStatus, stop: Stop | None, now: datetime, tells: list[Tell]
) -> RemediationPolicyStatus:
    generation = view.policy.metadata.generation
    conditions = status.conditions

    def say(type_: str, value: bool | None, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = with_condition(conditions, type_, value, reason, message, now, generation)

    if view.not_ready is None:
        say("Ready", True, "Valid", "runbook, checks and grant are there")
    else:
        say("Ready", False, view.not_ready.reason, view.not_ready.message)
    if view.not_ready is not None or not any(c.type == "Healthy" for c in conditions):
        say("Healthy", None, "NotAsked", "the checks have not answered often enough yet")
    suspended = view.policy.spec.guardrails.suspend
    say("Suspended", suspended, "Suspended" if suspended else "Active", "")
    if status.circuit is None:
        say("CircuitOpen", False, "Closed", "")
    else:
        say("CircuitOpen", True, "RunsFailed", _circuit_message(view, status))
    known = next((c for c in conditions if c.type == "Remediating"), None)
    if status.runs:
        say("Remediating", True, "RunStarted", ", ".join(run.name for run in status.runs))
    elif stop is not None:
        if known is None or known.reason != stop.reason:
            tells.append(Tell("RunNotStarted", f"health is lost, and no run is started: {stop.message}", warning=True))
        say("Remediating", False, stop.reason, stop.message)
    elif known is None or view.not_ready is not None or not _is_breach(view, status):
        say("Remediating", False, "Idle", "")
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})
