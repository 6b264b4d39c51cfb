"""The operator's metrics: named as controller-runtime and kube-state-metrics name theirs, explained in docs/metrics.md.

No label has a free text, an ARN or an object's name. Standing ones are served by every replica; the others by the one
that leads, since nobody else knows.
"""

import platform
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..adapters.admission import AdmissionProof
from ..adapters.kube import Kube
from ..adapters.store import Raw, Store, key_of
from ..adapters.tally import Tally
from ..api.incident import IncidentPhase
from ..api.meta import parse_instant
from ..api.run import FixState, RunPhase
from ..controllers.context import Context
from ..core.incident import LIVE
from ..core.run import ENDS
from .leader import Leader
from .queue import Queue
from .watch import Watch

PREFIX = "incident_operator_"
RUN, PLAN, INCIDENT = "IncidentRun", "RemediationPlan", "Incident"
REVIEW = "PostIncidentReview"
RUNBOOKS = ("Runbook", "ClusterRunbook")

# One more series for each counter, which says nothing that the start of the process does not.
disable_created_metrics()


@dataclass(frozen=True, kw_only=True)
class _Served:
    """One metric that is read when it is asked for."""

    documentation: str
    labels: tuple[str, ...]
    #: Values of the labels → value.
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    counter: bool = False

    def family(self, name: str) -> Metric:
        """Return it as it is now."""
        kind = CounterMetricFamily if self.counter else GaugeMetricFamily
        family = kind(PREFIX + name, self.documentation, labels=self.labels)
        for values, value in self.read():
            family.add_metric(values, value)
        return family


class Metrics:
    """What is observed as it happens, and what is read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "incident_operator_reconcile_total",
            "Reconciles by kind and result",
            ("kind", "result"),
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "incident_operator_reconcile_errors_total",
            "Reconciles that failed and come again, by kind and class of error",
            ("kind", "reason"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "incident_operator_reconcile_seconds",
            "Time of one reconcile, by kind",
            ("kind",),
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
        )
        self.queue_wait = Histogram(
            "incident_operator_queue_wait_seconds",
            "Time a key was ready before a worker took it, by kind",
            ("kind",),
            registry=self.registry,
            buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 10, 60),
        )
        built = Gauge("incident_operator_build_info", "Always 1", ("version", "python"), registry=self.registry)
        built.labels(version("incident-operator"), platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        self._served: dict[str, _Served] = {}
        self.registry.register(self)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Serve one value."""
        self._served[name] = _Served(documentation=documentation, labels=(), read=_alone(read))

    def total(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Serve one value that only grows, as a counter."""
        self._served[name] = _Served(documentation=documentation, labels=(), read=_alone(read), counter=True)

    def gauges(self, name: str, label: str, documentation: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Serve one value for each value of a label."""

        def values() -> Iterator[tuple[tuple[str, ...], float]]:
            return (((key,), value) for key, value in read().items())

        self._served[name] = _Served(documentation=documentation, labels=(label,), read=values)

    def counts(self, name: str, documentation: str, tally: Tally) -> None:
        """Serve a tally, as a counter."""
        self._served[name] = _Served(documentation=documentation, labels=tally.labels, read=tally.items, counter=True)

    def text(self) -> str:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield what is read when it is asked for: a collector's method."""
        for name, served in self._served.items():
            yield served.family(name)


def _alone(read: Callable[[], float]) -> Callable[[], Iterable[tuple[tuple[str, ...], float]]]:
    return lambda: [((), float(read()))]


def measure_standing(metrics: Metrics, queue: Queue, leader: Leader, workers: int) -> None:
    """Serve what every replica knows of itself."""
    metrics.gauge("leader", "1 while this replica leads", lambda: float(leader.held()))
    metrics.gauge("leader_epoch", "Number of this acquisition of the Lease", lambda: leader.epoch)
    metrics.gauge("queue_depth", "Keys ready and waiting", lambda: queue.depth)
    metrics.gauge("queue_oldest_seconds", "Longest wait of a ready key", lambda: queue.oldest_age)
    metrics.counts("queue_adds", "Keys that were asked for, by kind", queue.adds)
    metrics.counts("queue_retries", "Keys that come again because they failed, by kind", queue.retries)
    metrics.gauge("workers", "Workers", lambda: workers)
    metrics.gauge("workers_busy", "Workers that have a key", lambda: queue.busy)


def measure_leading(metrics: Metrics, context: Context, watch: Watch) -> None:
    """Serve what the replica that leads knows of the world."""
    kube, admission, store, now = context.kube, context.admission, context.store, context.clock.now
    _measure_outside(metrics, kube, admission, watch)
    metrics.counts("aws_calls", "Calls to AWS, retries of the client not counted", context.aws.calls)
    metrics.counts("aws_errors", "Calls to AWS that failed or were not sent, by code", context.aws.errors)
    metrics.gauge("effect_threads", "Threads for what blocks", lambda: context.pool.threads)
    metrics.gauge("effects_in_flight", "Threads that are in use", lambda: context.pool.in_flight)
    metrics.gauge("effects_queued", "Effects that wait for a thread", lambda: context.pool.queued)
    metrics.total("evaluator_restarts", "Evaluators that had to be replaced", lambda: context.evaluator.restarts)
    metrics.gauge(
        "objects_held",
        "Objects in memory",
        lambda: store.count(("Incident", "IncidentRun", "RemediationPlan", "Intervention")),
    )
    metrics.gauges("runs", "phase", "Runs that have not ended, by phase", lambda: runs_by_phase(store))
    metrics.gauge("runs_behind_schedule", "Runs that are behind schedule", lambda: behind_schedule(store))
    metrics.gauge("run_oldest_seconds", "Age of the oldest run under way", lambda: _age(_started(store), now()))
    metrics.counts("runs_ended", "Runs that ended, by phase, outcome and severity", context.ends)
    metrics.counts("plans_ended", "Plans that ended, by outcome and risk", context.outcomes)
    metrics.gauge("approvals_waiting", "Times people are asked now", lambda: len(asked_since(store)))
    metrics.gauge("approval_oldest_seconds", "Longest wait for people", lambda: _age(asked_since(store), now()))
    metrics.gauges(
        "runbooks_validated", "status", "Runbooks by status of Validated", lambda: runbooks_by(store, "Validated")
    )
    metrics.gauges("runbooks_fresh", "status", "Runbooks by status of Fresh", lambda: runbooks_by(store, "Fresh"))
    metrics.gauge("runbooks_update_due", "Runbooks that are due for an update", lambda: runbooks_due(store))
    metrics.gauges("incidents", "phase", "Incidents that are watched, by phase", lambda: incidents_by_phase(store))
    metrics.gauge("incidents_unanswered", "Live incidents that nobody has acknowledged", lambda: unanswered(store))
    metrics.gauge("incidents_late", "Incidents whose response clock was missed", lambda: missed_clocks(store))
    metrics.gauge("incidents_untold", "Live incidents of which somebody can't be told", lambda: untold(store))
    metrics.gauge("reviews_overdue", "Reviews that are overdue", lambda: reviews_overdue(store))
    metrics.counts("messages", "Messages handed to channels, by type, state and reason", context.messenger.deliveries)
    metrics.gauges("gates_closed", "gate", "Plans that a gate keeps closed, by gate", lambda: closed_gates(store))


def _measure_outside(metrics: Metrics, kube: Kube, admission: AdmissionProof, watch: Watch) -> None:
    metrics.gauge("api_writes", "Writes to the API server", lambda: kube.writes)
    metrics.gauge("api_conflicts", "Status writes that met a newer object", lambda: kube.conflicts)
    metrics.counts("api_errors", "Requests to the API server without success", kube.errors)
    metrics.gauge("events_dropped", "Kubernetes Events that could not be posted", lambda: kube.events_dropped)
    metrics.gauge("admission_proven", "1 while a forged intervention is refused", lambda: float(admission.proven))
    metrics.counts("watch_events", "Events of the watches, by kind and type", watch.seen)


def _status(raw: Raw) -> Raw:
    found: Raw = raw.get("status") or {}
    return found


def runs_by_phase(store: Store) -> dict[str, float]:
    """Return how many runs are in each phase that is no end; those without any are 0."""
    counts = {str(phase): 0.0 for phase in RunPhase if phase not in ENDS}
    for raw in store.all(RUN):
        phase = _status(raw).get("phase", str(RunPhase.PENDING))
        if phase in counts:
            counts[phase] += 1
    return counts


def incidents_by_phase(store: Store) -> dict[str, float]:
    """Return how many incidents are in each phase; those without any are 0."""
    counts = {str(phase): 0.0 for phase in IncidentPhase}
    for raw in store.all(INCIDENT):
        counts[_status(raw).get("phase", str(IncidentPhase.OPEN))] += 1
    return counts


def unanswered(store: Store) -> int:
    """Return how many incidents are live and wait for somebody to acknowledge; drills are nobody's to answer."""
    live = [raw for raw in store.all(INCIDENT) if _status(raw).get("phase", IncidentPhase.OPEN) in LIVE]
    return sum(not _status(raw).get("acknowledgedBy") and not raw["spec"].get("drill") for raw in live)


def missed_clocks(store: Store) -> int:
    """Return how many incidents were not acknowledged in time."""
    late = {"type": "RespondedInTime", "status": "False"}.items()
    return sum(any(late <= c.items() for c in _status(raw).get("conditions", ())) for raw in store.all(INCIDENT))


def untold(store: Store) -> int:
    """Return how many live incidents say that somebody, or everybody, could not be told; drills tell nobody."""
    said = {"type": "Escalating", "status": "False"}.items()
    live = [raw for raw in store.all(INCIDENT) if _status(raw).get("phase", IncidentPhase.OPEN) in LIVE]
    return sum(
        not raw["spec"].get("drill") and any(said <= c.items() for c in _status(raw).get("conditions", ()))
        for raw in live
    )


def reviews_overdue(store: Store) -> int:
    """Return how many reviews people are late with."""
    late = {"type": "Overdue", "status": "True"}.items()
    return sum(any(late <= c.items() for c in _status(raw).get("conditions", ())) for raw in store.all(REVIEW))


def behind_schedule(store: Store) -> int:
    """Return how many runs say that they are behind schedule."""
    late = {"type": "BehindSchedule", "status": "True"}.items()
    return sum(any(late <= c.items() for c in _status(raw).get("conditions", ())) for raw in store.all(RUN))


def _started(store: Store) -> list[datetime]:
    started = (_status(raw).get("startedAt") for raw in store.all(RUN))
    return [parse_instant(at) for at in started if at]


def asked_since(store: Store) -> list[datetime]:
    """Return since when people are asked: by runs that wait for them, and by plans that put an ended one back."""
    runs = [_status(raw) for raw in store.all(RUN)]
    since = [
        status.get("awaitingSince")
        for status in runs
        if status.get("phase") == RunPhase.AWAITING_APPROVAL
        and (status.get("now") or {}).get("waitingFor") == "approval"
    ]
    since += [
        raw["metadata"].get("creationTimestamp")
        for raw in store.all(PLAN)
        if raw["spec"].get("revertOf") and "ApprovalMissing" in _gates(raw)
    ]
    return [parse_instant(at) for at in since if at]


def closed_gates(store: Store) -> dict[str, float]:
    """Return how many plans each gate keeps closed now: as the plans say, and as the runs say that ask people.

    A plan writes its gates when it is looked at next, its run when it asks.
    """
    closed = {(key_of(raw), gate) for raw in store.all(PLAN) for gate in _gates(raw)}
    for raw in store.all(RUN):
        if _status(raw).get("phase") == RunPhase.AWAITING_APPROVAL:
            namespace, _ = key_of(raw)
            fixes = (fix for step in _status(raw).get("steps", ()) for fix in step.get("fixes", ()))
            blocked = (fix for fix in fixes if fix.get("state") == FixState.BLOCKED and "reason" in fix)
            closed |= {((namespace, fix.get("planRef", "")), fix["reason"]) for fix in blocked}
    return {gate: float(count) for gate, count in sorted(Counts(gate for _, gate in closed).items())}


def _runbooks(store: Store) -> list[Raw]:
    return [_status(raw) for kind in RUNBOOKS for raw in store.all(kind)]


def runbooks_by(store: Store, type_: str) -> dict[str, float]:
    """Return how many runbooks have each status of a condition; what nobody said yet is Unknown."""
    counts = {"True": 0.0, "False": 0.0, "Unknown": 0.0}
    for status in _runbooks(store):
        said = {c["type"]: c["status"] for c in status.get("conditions", ())}
        counts[said.get(type_, "Unknown")] += 1
    return counts


def runbooks_due(store: Store) -> int:
    """Return how many runbooks are due for an update."""
    return sum(bool(status.get("updateDue")) for status in _runbooks(store))


def _gates(plan: Raw) -> list[str]:
    status = _status(plan)
    return [] if status.get("settled") else [gate["name"] for gate in status.get("gates", ())]


def _age(instants: Iterable[datetime], now: datetime) -> float:
    return max(((now - at).total_seconds() for at in instants), default=0.0)
