"""Any history of a policy: one run for an episode, none against a guardrail, silence while all is well."""

from datetime import timedelta
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from incident_operator.api.policy import RemediationPolicy
from incident_operator.api.run import CheckState, CheckStatus, IncidentRun, IncidentRunStatus, RunPhase
from incident_operator.core.policy import (
    CLOSE_CIRCUIT,
    CreateRun,
    PolicyDecision,
    PolicyView,
    Sample,
    decide_policy,
    run_of,
)
from incident_operator.core.windows import closed_until
from tests.builders import NOW
from tests.properties.conftest import PROFILE

#: A tenth of what runs get: each is a dozen decisions long.
HISTORIES = max(100, settings.get_profile(PROFILE).max_examples // 10)
FREEZE = {"kind": "Freeze", "days": ["Thu"], "from": "15:00", "to": "16:00", "timeZone": "Europe/London"}
ENDS = (RunPhase.RESOLVED, RunPhase.UNRESOLVED, RunPhase.FAILED, RunPhase.CANCELLED, RunPhase.NOTHING_FOUND)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("failing"), st.integers(2, 4)),
        st.tuples(st.just("failing"), st.integers(2, 4)),
        st.tuples(st.just("sample"), st.sampled_from(tuple(CheckState)[2:])),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.sampled_from(ENDS)),
        st.tuples(st.just("delete"), st.none()),
        st.tuples(st.just("suspend"), st.booleans()),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 120)),
        # The process dies after its write, before its effects.
        st.tuples(st.just("die"), st.sampled_from((CheckState.FAILED, CheckState.PASSED))),
    ),
    min_size=5,
    max_size=40,
)
GUARDRAILS = st.fixed_dictionaries(
    {
        "cooldown": st.sampled_from(("0s", "5m")),
        "maxRunsPerDay": st.integers(1, 4),
        "maxConcurrentRuns": st.integers(1, 2),
        "stopAfterFailures": st.integers(1, 3),
        "windows": st.sampled_from(([], [FREEZE])),
    }
)


class World:
    """A policy, the API server that it is stored in, and a clock."""

    def __init__(self, guardrails: dict[str, Any]) -> None:
        self.policy = RemediationPolicy.model_validate(
            {
                "metadata": {"name": "mails", "namespace": "shop", "uid": "policy-uid"},
                "spec": {
                    "health": {"checks": [{"name": "users"}], "failureThreshold": 2, "successThreshold": 1},
                    "remediation": {"runbookRef": {"name": "lambda-failures"}},
                    "guardrails": guardrails,
                },
            }
        )
        self.now = NOW
        self.sample: Sample | None = None
        self.runs: dict[str, IncidentRun] = {}
        self.created: dict[str, int] = {}

    def view(self) -> PolicyView:
        """Return what is seen now."""
        runs = {run.name: self.runs.get(run.name) for run in self.policy.status.runs}
        return PolicyView(policy=self.policy, since=NOW, sample=self.sample, looked_at=self.now, runs=runs)

    def decide(self, *, dies: bool = False) -> PolicyDecision:
        """Decide, store, and perform what is asked for; anything again changes nothing."""
        view = self.view()
        decision = decide_policy(view, self.now)
        assert decision == decide_policy(view, self.now)
        self.policy = self.policy.model_copy(update={"status": decision.status})
        for effect in decision.effects:
            if isinstance(effect, CreateRun) and not dies:
                self._create(effect)
        return decision

    def _create(self, effect: CreateRun) -> None:
        name = effect.run.name
        assert name in {run.name for run in self.policy.status.runs}, "an episode is stored before its run is created"
        if name in self.runs:
            return
        guardrails, status = self.policy.spec.guardrails, self.policy.status
        assert not guardrails.suspend
        assert status.circuit is None
        assert not closed_until(guardrails.windows, self.now)[0]
        assert name not in self.created, "never two runs for one episode"
        assert effect.run.episode not in self.created.values()
        live = [run for run in self.runs.values() if not run.status.settled]
        assert len(live) < guardrails.max_concurrent_runs
        self.created[name] = effect.run.episode
        run = run_of(self.policy, effect.run)
        metadata = run.metadata.model_copy(update={"uid": f"uid-{name}", "creation_timestamp": self.now})
        self.runs[name] = run.model_copy(update={"metadata": metadata})

    def step(self, what: str, value: Any) -> None:
        """Let one thing happen, and decide until nothing is left to do."""
        if what == "failing":
            for _ in range(value):
                self.step("sample", CheckState.FAILED)
            return
        if what in ("sample", "die"):
            self.now += timedelta(minutes=1)
            reason = None if value == CheckState.PASSED else "UsersFailing"
            check = CheckStatus(name="users", action="lambda.invocations", state=value, reason=reason)
            self.sample = Sample(at=self.now, checks=(check,))
            if what == "die":
                self.decide(dies=True)
                self.sample = None
        elif what == "wait":
            self.now += timedelta(minutes=value)
            self.sample = None
        elif what == "suspend":
            self._edit(guardrails={"suspend": value})
        elif what == "close":
            self._edit(annotations={CLOSE_CIRCUIT: str(value)})
        elif what in ("end", "delete") and (live := [r for r in self.runs.values() if not r.status.settled]):
            self._end(live[0], None if what == "delete" else value)
        for _ in range(value if what == "again" else 3):
            self.decide()

    def _edit(self, *, guardrails: dict[str, Any] | None = None, annotations: dict[str, str] | None = None) -> None:
        policy = self.policy
        edited = policy.spec.guardrails.model_copy(update=guardrails or {})
        metadata = policy.metadata.model_copy(update={"annotations": annotations or policy.metadata.annotations})
        spec = policy.spec.model_copy(update={"guardrails": edited})
        self.policy = policy.model_copy(update={"spec": spec, "metadata": metadata})

    def _end(self, run: IncidentRun, phase: RunPhase | None) -> None:
        if phase is None:
            del self.runs[run.metadata.name]
            return
        status = IncidentRunStatus(phase=phase, settled=True, finished_at=self.now)
        self.runs[run.metadata.name] = run.model_copy(update={"status": status})


@settings(settings.get_profile(PROFILE), max_examples=HISTORIES)
@given(guardrails=GUARDRAILS, steps=STEPS)
def test_a_policy_keeps_its_bounds_in_any_history(guardrails: dict[str, Any], steps: list[tuple[str, Any]]) -> None:
    """The assertions stand where a run is created; at the end a healthy policy falls silent."""
    world = World(guardrails)
    for what, value in steps:
        world.step(what, value)
        days = {
            run.metadata.creation_timestamp.date() for run in world.runs.values() if run.metadata.creation_timestamp
        }
        assert len(world.created) == len(set(world.created.values()))
        assert len(world.runs) <= guardrails["maxRunsPerDay"] * max(len(days), 1)
    event(f"{len(world.created)} runs")
    world.step("sample", CheckState.PASSED)
    quiet = world.policy.status
    for _ in range(3):
        world.step("sample", CheckState.PASSED)
        assert world.policy.status == quiet, "healthy, and written"
