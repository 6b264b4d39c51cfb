"""decide_policy: thresholds, one run for an episode, every guardrail, and silence while all is well."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from incident_operator.actions.catalogue import infos
from incident_operator.adapters.store import Store
from incident_operator.api.policy import Health, RemediationPolicy, Window
from incident_operator.api.run import CheckState, CheckStatus, IncidentRun, IncidentRunStatus, RunPhase
from incident_operator.controllers.resolving import policy_of
from incident_operator.core.gates import closed
from incident_operator.core.health import HealthPlan, plan_health
from incident_operator.core.plan.opening import gate_facts
from incident_operator.core.plan.view import PlanView
from incident_operator.core.policy import (
    CLOSE_CIRCUIT,
    AskHealth,
    CreateRun,
    NotReady,
    PolicyView,
    Sample,
    Tell,
    cooldown_until,
    decide_policy,
    next_slot,
    run_of,
)
from incident_operator.core.schedule import Timing
from incident_operator.core.windows import WindowInvalid, closed_until, parse_cron
from tests.builders import NOW, a_grant, a_plan, a_run, a_runbook

EVERY = timedelta(minutes=1)
FAILED, PASSED, ERROR = CheckState.FAILED, CheckState.PASSED, CheckState.ERROR


def a_policy(**guardrails: Any) -> RemediationPolicy:
    """Return a policy of one check that breaks after three failures and is well after two successes."""
    return RemediationPolicy.model_validate(
        {
            "metadata": {"name": "mails", "namespace": "shop", "uid": "policy-uid"},
            "spec": {
                "health": {"checks": [{"name": "users"}]},
                "remediation": {"runbookRef": {"name": "lambda-failures"}},
                "guardrails": {"cooldown": "10m", **guardrails},
            },
        }
    )


def a_sample(at: datetime, state: CheckState) -> Sample:
    """Return one round's answer."""
    reason = None if state == PASSED else "UsersFailing"
    return Sample(at=at, checks=(CheckStatus(name="users", action="lambda.invocations", state=state, reason=reason),))


class Story:
    """A policy in time: its stored status, the API server's runs, and every write."""

    def __init__(self, policy: RemediationPolicy) -> None:
        self.policy, self.now = policy, NOW
        self.runs: dict[str, IncidentRun] = {}
        self.created: list[str] = []
        self.writes = 0
        self.told: list[str] = []

    def view(self, sample: Sample | None = None, **fields: Any) -> PolicyView:
        """Return what the decision sees now."""
        runs = {run.name: self.runs.get(run.name) for run in self.policy.status.runs}
        return PolicyView(policy=self.policy, since=NOW, looked_at=self.now, sample=sample, runs=runs, **fields)

    def decide(self, sample: Sample | None = None, *, create: bool = True, **fields: Any) -> None:
        """Decide until nothing changes, and create what is asked for."""
        for _ in range(5):
            decision = decide_policy(self.view(sample, **fields), self.now)
            self.told += [e.reason for e in decision.effects if isinstance(e, Tell)]
            if decision.status != self.policy.status:
                self.writes += 1
                self.policy = self.policy.model_copy(update={"status": decision.status})
            creates = [e.run for e in decision.effects if isinstance(e, CreateRun)]
            for started in creates if create else ():
                if started.name not in self.runs:
                    self.created.append(started.name)
                    run = run_of(self.policy, started)
                    metadata = run.metadata.model_copy(update={"uid": f"uid-{started.name}"})
                    self.runs[started.name] = run.model_copy(update={"metadata": metadata})
            sample = None
            if not creates or not create:
                return

    def sees(self, *states: CheckState, **fields: Any) -> "Story":
        """Let the checks answer so, once a minute."""
        for state in states:
            self.now += EVERY
            self.decide(a_sample(self.now, state), **fields)
        return self

    def ends(self, phase: RunPhase) -> "Story":
        """Let the newest run end so."""
        self.now += EVERY
        status = IncidentRunStatus(phase=phase, settled=True, finished_at=self.now)
        name = self.created[-1]
        self.runs[name] = self.runs[name].model_copy(update={"status": status})
        self.decide()
        return self

    def condition(self, type_: str) -> tuple[str, str]:
        """Return a condition's status and reason."""
        (found,) = [c for c in self.policy.status.conditions if c.type == type_]
        return found.status, found.reason

    def with_policy(self, *, annotations: dict[str, str] | None = None, **guardrails: Any) -> "Story":
        """Let a person edit the policy."""
        policy = self.policy
        spec = policy.spec.model_copy(update={"guardrails": policy.spec.guardrails.model_copy(update=guardrails)})
        metadata = policy.metadata.model_copy(update={"annotations": annotations or policy.metadata.annotations})
        self.policy = policy.model_copy(update={"spec": spec, "metadata": metadata})
        self.decide()
        return self


def broken(**guardrails: Any) -> Story:
    """Return the story of a policy that has just started its run."""
    return Story(a_policy(**guardrails)).sees(FAILED, FAILED, FAILED)


def test_a_run_starts_after_as_many_failures_in_a_row_as_the_policy_says() -> None:
    """Not one sooner; a success in between starts the count anew."""
    story = Story(a_policy()).sees(FAILED, FAILED, PASSED, FAILED, FAILED)
    assert story.created == []
    story.sees(FAILED)
    assert story.policy.status.episode is not None
    assert story.created == [story.policy.status.episode.run]
    assert story.condition("Healthy") == ("False", "Failing")
    assert story.condition("Remediating") == ("True", "RunStarted")


def test_an_answer_that_is_none_counts_as_neither() -> None:
    """It neither adds to the failures nor sets them back; three in a row are told as Unknown."""
    story = Story(a_policy()).sees(FAILED, FAILED, ERROR, CheckState.INCONCLUSIVE)
    assert story.created == []
    assert story.sees(FAILED).created
    other = Story(a_policy()).sees(PASSED, PASSED)
    assert other.condition("Healthy") == ("True", "Passing")
    other.sees(ERROR, ERROR)
    assert other.condition("Healthy") == ("True", "Passing")
    assert other.sees(ERROR).condition("Healthy") == ("Unknown", "NoAnswer")
    assert other.created == []


def test_a_policy_that_stays_healthy_writes_nothing() -> None:
    """Once it is known to be healthy, a thousand answers change nothing."""
    story = Story(a_policy()).sees(PASSED, PASSED)
    before = story.writes
    story.sees(*[PASSED] * 1000)
    assert story.writes == before


def test_a_policy_that_stays_unhealthy_writes_nothing_more() -> None:
    """The run is at work; nothing is written for each further failure."""
    story = broken()
    before = story.writes
    story.sees(*[FAILED] * 100)
    assert story.writes == before
    assert len(story.created) == 1


def test_the_episode_is_stored_before_its_run_is_created() -> None:
    """Whoever dies in between leaves a status from which the same run is made, once."""
    story = Story(a_policy()).sees(FAILED, FAILED)
    story.now += EVERY
    story.decide(a_sample(story.now, FAILED), create=False)
    episode = story.policy.status.episode
    assert episode is not None
    assert story.created == []
    story.decide()
    story.decide()
    assert story.created == [episode.run]
    assert story.policy.status.runs[0].uid


def test_any_event_again_changes_nothing() -> None:
    """The same sample, decided on ten times after it was counted, is one sample."""
    story = Story(a_policy())
    for state in (FAILED, FAILED, FAILED, PASSED, PASSED):
        story.now += EVERY
        for _ in range(10):
            story.decide(a_sample(story.now, state))
    assert len(story.created) == 1
    assert story.policy.status.consecutive.successes == 2


def test_recovery_closes_the_episode() -> None:
    """As seen by the policy; the run may still watch that it stays."""
    story = broken().sees(PASSED)
    assert story.policy.status.episode is not None
    story.sees(PASSED)
    assert story.policy.status.episode is None
    assert story.condition("Healthy") == ("True", "Passing")
    assert "Recovered" in story.told
    assert story.ends(RunPhase.RESOLVED).condition("Remediating") == ("False", "Idle")


def test_a_run_that_did_not_cure_is_followed_by_another_after_the_cooldown() -> None:
    """With failures counted anew, and under another name."""
    story = broken(cooldown="10m").ends(RunPhase.UNRESOLVED).sees(FAILED, FAILED, FAILED)
    assert story.condition("Remediating") == ("False", "Cooldown")
    story.sees(*[FAILED] * 10)
    assert len(set(story.created)) == len(story.created) == 2
    assert story.policy.status.episodes == 2


def test_a_run_that_somebody_deleted_is_not_made_again() -> None:
    """Its episode is over; only another breach after the cooldown starts another."""
    story = broken()
    del story.runs[story.created[0]]
    story.sees(FAILED, FAILED, FAILED, FAILED)
    assert len(story.created) == 1
    assert story.policy.status.episode is not None
    assert story.policy.status.episode.outcome == "Deleted"


def test_a_run_of_the_same_name_that_is_not_ours_is_left_alone() -> None:
    """It is counted as gone: nobody's run is taken for the policy's."""
    story = Story(a_policy()).sees(FAILED, FAILED)
    story.now += EVERY
    story.decide(a_sample(story.now, FAILED), create=False)
    name = story.policy.status.runs[0].name
    story.runs[name] = a_run()
    story.decide()
    assert story.policy.status.runs == ()


@pytest.mark.parametrize(
    ("guardrails", "reason"),
    [
        ({"suspend": True}, "Suspended"),
        ({"windows": [{"kind": "Freeze", "from": "14:00", "to": "18:00"}]}, "Frozen"),
        ({"windows": [{"kind": "Allow", "cron": "0 2 * * *", "duration": "1h"}]}, "Frozen"),
    ],
)
def test_nothing_starts_against_a_guardrail(guardrails: dict[str, Any], reason: str) -> None:
    """Health is watched on, and the reason is told once."""
    story = broken(**guardrails).sees(*[FAILED] * 5)
    assert story.created == []
    assert story.condition("Healthy") == ("False", "Failing")
    assert story.condition("Remediating") == ("False", reason)
    assert story.told.count("RunNotStarted") == 1


def test_a_breach_is_acted_on_once_the_guardrail_is_gone() -> None:
    """At the next answer, not on what was seen before."""
    story = broken(suspend=True).with_policy(suspend=False)
    assert story.created == []
    assert len(story.sees(FAILED).created) == 1


def test_an_episode_whose_run_was_not_created_is_withdrawn_when_something_stops_it() -> None:
    """The operator died between the two, and a person suspended the policy meanwhile."""
    story = Story(a_policy()).sees(FAILED, FAILED)
    story.now += EVERY
    story.decide(a_sample(story.now, FAILED), create=False)
    story.with_policy(suspend=True)
    assert story.created == []
    assert story.policy.status.runs == ()


def test_no_more_runs_a_day_than_allowed() -> None:
    """The next day of UTC has its own number."""
    story = broken(cooldown="1s", max_runs_per_day=2, stop_after_failures=100)
    for _ in range(4):
        story.ends(RunPhase.UNRESOLVED).sees(FAILED, FAILED, FAILED)
    assert len(story.created) == 2
    assert story.condition("Remediating") == ("False", "MaxRunsPerDay")
    story.now += timedelta(days=1)
    assert len(story.sees(FAILED).created) == 3


def test_no_more_runs_at_once_than_allowed() -> None:
    """A second breach while the first one's run is still at work waits for it."""
    story = broken(cooldown="1s").sees(PASSED, PASSED, FAILED, FAILED, FAILED)
    assert len(story.created) == 1
    two = broken(cooldown="1s", max_concurrent_runs=2).sees(PASSED, PASSED, FAILED, FAILED, FAILED)
    assert len(two.created) == 2


def test_the_circuit_opens_after_failures_in_a_row_and_a_person_closes_it() -> None:
    """By an annotation with a new value; the old one, again, does not."""
    story = broken(cooldown="1s", stop_after_failures=2)
    story.ends(RunPhase.UNRESOLVED).sees(FAILED, FAILED, FAILED).ends(RunPhase.FAILED).sees(FAILED, FAILED, FAILED)
    assert len(story.created) == 2
    assert story.condition("CircuitOpen") == ("True", "RunsFailed")
    assert story.condition("Remediating") == ("False", "CircuitOpen")
    story.with_policy(annotations={CLOSE_CIRCUIT: "alice, at noon"})
    assert story.condition("CircuitOpen") == ("False", "Closed")
    assert len(story.sees(FAILED).created) == 3
    story.ends(RunPhase.UNRESOLVED).sees(FAILED, FAILED, FAILED).ends(RunPhase.UNRESOLVED)
    assert story.condition("CircuitOpen") == ("True", "RunsFailed")


def test_a_cure_closes_what_had_not_opened() -> None:
    """Only failures in a row count."""
    story = broken(cooldown="1s", stop_after_failures=2)
    for phase in (RunPhase.UNRESOLVED, RunPhase.RESOLVED, RunPhase.UNRESOLVED):
        story.ends(phase).sees(FAILED, FAILED, FAILED)
    assert story.condition("CircuitOpen") == ("False", "Closed")
    assert len(story.created) == 4


def test_a_policy_that_is_not_ready_reads_nothing() -> None:
    """It says why, and what is known of health is Unknown."""
    story = Story(a_policy()).sees(PASSED, PASSED)
    refused = NotReady(reason="GrantMissing", message="no ActionGrant permits it")
    story.sees(FAILED, FAILED, FAILED, FAILED, not_ready=refused)
    assert story.condition("Ready") == ("False", "GrantMissing")
    assert story.condition("Healthy") == ("Unknown", "NotAsked")
    assert story.created == []
    decision = decide_policy(replace(story.view(not_ready=refused), looked_at=None), story.now)
    assert not [e for e in decision.effects if isinstance(e, AskHealth)]
    assert decision.wake_at is not None


def test_a_window_that_cannot_be_read_lets_nothing_start() -> None:
    """It fails closed, and says what to write."""
    story = broken(windows=[{"kind": "Freeze", "from": "14:00", "to": "15:00", "timeZone": "Mars/Olympus"}])
    assert story.condition("Ready") == ("False", "WindowInvalid")
    assert story.created == []


def test_a_new_policy_is_asked_at_once_and_then_in_its_own_rhythm() -> None:
    """The rhythm follows from the UID: the same in every process, another one for each policy."""
    view = PolicyView(policy=a_policy(), since=NOW)
    assert AskHealth() in decide_policy(view, NOW).effects
    slots = {next_slot(f"uid-{n}", EVERY, NOW) for n in range(100)}
    assert len(slots) == 100
    assert all(NOW < slot <= NOW + EVERY for slot in slots)
    assert next_slot("uid", EVERY, next_slot("uid", EVERY, NOW)) == next_slot("uid", EVERY, NOW) + EVERY


def test_the_run_is_the_policys_and_dates_from_the_breach() -> None:
    """Deleted with it, found by label; one that comes too late expires."""
    story = broken()
    run = story.runs[story.created[0]]
    assert run.spec.incident.detected_at == NOW + 3 * EVERY
    assert run.metadata.owner_references[0].uid == "policy-uid"
    assert run.metadata.labels == {"ops.shopsmart.com/policy": "mails"}


# --- what health rests on ---------------------------------------------------------------------------------------------


def test_a_check_of_the_runbook_brings_those_that_it_reads() -> None:
    """In an order in which they can be asked."""
    runbook = a_runbook(
        steps=[
            {
                "name": "assess",
                "title": "Assessment",
                "expectedBy": "5m",
                "checks": [
                    {"name": "users", "action": "lambda.invocations", "inputs": {"functionName": "f"}},
                    {"name": "configuration", "action": "lambda.configuration", "inputs": {"functionName": "f"}},
                    {
                        "name": "errors",
                        "action": "lambda.errors",
                        "inputs": {"functionName": "${checks.configuration.output.functionArn}"},
                    },
                ],
            }
        ]
    )
    planned = plan_health(Health.model_validate({"checks": [{"name": "errors"}]}), runbook, infos())
    assert isinstance(planned, HealthPlan)
    assert [check.name for check in planned.asked] == ["configuration", "errors"]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ({"name": "nope"}, "the runbook has no check 'nope'"),
        ({"name": "users", "action": "lambda.invocations"}, "is a check of the runbook"),
        ({"name": "own", "action": "lambda.nope"}, "there is no action"),
    ],
)
def test_a_check_that_cannot_be_asked_is_named(check: dict[str, Any], told: str) -> None:
    """Before anybody needs it."""
    runbook = a_runbook()
    wrong = plan_health(Health.model_validate({"checks": [check]}), runbook, infos())
    assert isinstance(wrong, str)
    assert told in wrong


# --- windows ----------------------------------------------------------------------------------------------------------


def a_window(**fields: Any) -> Window:
    """Return a window in Berlin, where the clock goes forward on 2026-03-29 and back on 2026-10-25."""
    return Window.model_validate({"kind": "Freeze", "timeZone": "Europe/Berlin", **fields})


@pytest.mark.parametrize(
    ("window", "at", "closed"),
    [
        # Winter and summer: the same wall clock, another instant.
        ({"from": "08:00", "to": "09:00"}, datetime(2026, 3, 28, 7, 30, tzinfo=UTC), True),
        ({"from": "08:00", "to": "09:00"}, datetime(2026, 3, 30, 7, 30, tzinfo=UTC), False),
        ({"from": "08:00", "to": "09:00"}, datetime(2026, 3, 30, 6, 30, tzinfo=UTC), True),
        # 02:30 is skipped: the freeze is not lost.
        ({"cron": "30 2 * * *", "duration": "1h"}, datetime(2026, 3, 29, 1, 45, tzinfo=UTC), True),
        # 02:30 comes twice: frozen from the first to the second and for as long again.
        ({"cron": "30 2 * * *", "duration": "1h"}, datetime(2026, 10, 25, 0, 29, tzinfo=UTC), False),
        ({"cron": "30 2 * * *", "duration": "1h"}, datetime(2026, 10, 25, 0, 31, tzinfo=UTC), True),
        ({"cron": "30 2 * * *", "duration": "1h"}, datetime(2026, 10, 25, 2, 29, tzinfo=UTC), True),
        ({"cron": "30 2 * * *", "duration": "1h"}, datetime(2026, 10, 25, 2, 31, tzinfo=UTC), False),
        # Over midnight, by the day it begins on.
        ({"days": ["Fri"], "from": "22:00", "to": "06:00"}, datetime(2026, 6, 6, 3, 0, tzinfo=UTC), True),
        ({"days": ["Fri"], "from": "22:00", "to": "06:00"}, datetime(2026, 6, 5, 3, 0, tzinfo=UTC), False),
        # Allowed only in it; a freeze wins.
        ({"kind": "Allow", "from": "08:00", "to": "09:00"}, datetime(2026, 6, 5, 6, 30, tzinfo=UTC), False),
        ({"kind": "Allow", "from": "08:00", "to": "09:00"}, datetime(2026, 6, 5, 7, 30, tzinfo=UTC), True),
    ],
)
def test_a_window_follows_the_wall_clock(window: dict[str, Any], at: datetime, closed: bool) -> None:
    """Across both changes of the clock, in doubt for the freeze."""
    assert closed_until([a_window(**window)], at)[0] == closed


def test_a_freeze_wins_over_what_is_allowed() -> None:
    """And the end of the freeze is told."""
    windows = [a_window(kind="Allow", **{"from": "08:00", "to": "12:00"}), a_window(**{"from": "09:00", "to": "10:00"})]
    at = datetime(2026, 6, 5, 7, 30, tzinfo=UTC)
    assert closed_until(windows, at) == (True, datetime(2026, 6, 5, 8, 0, tzinfo=UTC))


@pytest.mark.parametrize("text", ["* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "* * 0 * *"])
def test_a_cron_that_is_none_is_refused(text: str) -> None:
    """With the part that can't be read."""
    with pytest.raises(WindowInvalid, match="cron"):
        parse_cron(text)


def test_cron_reads_names_ranges_steps_and_lists() -> None:
    """As cron does: Sunday is 0 and 7, and two restricted day fields are either of them."""
    cron = parse_cron("*/15 8-10,22 1 JAN-MAR SUN")
    assert cron.minutes == {0, 15, 30, 45}
    assert cron.hours == {8, 9, 10, 22}
    assert cron.months == {1, 2, 3}
    assert cron.weekdays == parse_cron("0 0 * * 7").weekdays == {0}
    assert cron.on(datetime(2026, 1, 1).date())  # noqa: DTZ001  (a date has no zone)
    assert cron.on(datetime(2026, 1, 4).date())  # noqa: DTZ001
    assert not cron.on(datetime(2026, 1, 5).date())  # noqa: DTZ001


# --- the gates of its runs --------------------------------------------------------------------------------------------


def test_the_gates_of_a_run_know_its_policy() -> None:
    """Found by the run's owner, and by its UID: a namesake made later is another policy."""
    story = broken()
    run = story.runs[story.created[0]]
    store = Store()
    context: Any = SimpleNamespace(store=store)
    assert policy_of(context, run) is None
    store.put("RemediationPolicy", {**story.policy.wire(), "kind": "RemediationPolicy"})
    assert policy_of(context, run) is not None
    other = {**story.policy.wire()["metadata"], "uid": "another", "resourceVersion": "2"}
    store.put("RemediationPolicy", {**story.policy.wire(), "metadata": other})
    assert policy_of(context, run) is None
    assert policy_of(context, a_run()) is None


def test_an_open_circuit_and_a_cooldown_close_the_gates_of_a_plan() -> None:
    """A run that is still at work asks instead of acting."""
    view = PlanView(
        plan=a_plan(),
        run=a_run(),
        grant=a_grant(),
        epoch=1,
        holder="me",
        call_timeout=timedelta(seconds=10),
        timing=Timing(),
    )
    assert closed(gate_facts(view, NOW)) == ()
    resting = replace(view, circuit_open=True, cooldown_until=NOW + EVERY)
    assert [gate.name for gate in closed(gate_facts(resting, NOW))] == ["Cooldown", "CircuitOpen"]
    ended = broken().ends(RunPhase.UNRESOLVED)
    assert cooldown_until(ended.policy, Timing()) == ended.now + timedelta(minutes=10)
