"""decide_incident: who is told when, what people's words do to it, what runs say of it, and how it is closed out."""

from datetime import datetime
from typing import Any

import pytest

from incident_operator.api.incident import Engagement, Incident, IncidentPhase
from incident_operator.api.meta import format_instant
from incident_operator.api.review import PostIncidentReview
from incident_operator.api.run import IncidentRun
from incident_operator.core.incident import (
    IncidentView,
    Proof,
    decide_incident,
    has_incident,
    incident_name,
    incident_of,
    notice_of,
)
from incident_operator.core.redact import redact_json
from tests.builders import a_run
from tests.core.incidents import CHANNELS, Life, minutes, reachable, utc

FRIDAY_NIGHT = "2026-01-16 22:00"


def ran(name: str = "run-1", phase: str = "Diagnosing", **status: Any) -> IncidentRun:
    """Return a run of the incident, as far as an incident looks at it."""
    run = a_run()
    metadata = run.metadata.model_copy(update={"name": name, "uid": f"uid-{name}"})
    stored = {"startedAt": "2026-01-16T22:01:00Z", "phase": phase, **status}
    return IncidentRun.model_validate({**run.wire(), "metadata": metadata.wire(), "status": stored})


def ended(name: str, phase: str, at: datetime, outcome: str = "Runbook") -> IncidentRun:
    """Return a run that has ended."""
    recovery = {"state": "Passing", "passingSince": "2026-01-16T22:19:00Z"}
    return ran(name, phase, finishedAt=format_instant(at), settled=True, outcome=outcome, recovery=recovery)


def test_the_ladder_is_climbed_until_somebody_acknowledges() -> None:
    """Primary at once and again, then Secondary, then Escalation; by pager and mail; nobody after the word."""
    life = Life(FRIDAY_NIGHT, "P0").until("2026-01-16 22:27")
    assert life.heard("Page", channel="Mail") == [
        "01-16 22:00 Page Primary Mail",
        "01-16 22:05 Page Primary Mail",
        "01-16 22:10 Page Secondary Mail",
        "01-16 22:15 Page Secondary Mail",
        "01-16 22:20 Page Escalation Mail",
        "01-16 22:25 Page Escalation Mail",
    ]
    assert life.status.times.paged == utc(FRIDAY_NIGHT)
    assert life.condition("RespondedInTime") == ("False", "ClockMissed")
    life.say("Acknowledge").until("2026-01-16 23:30")
    assert len(life.heard("Page", channel="Mail")) == 6
    assert life.heard("Acknowledged") == ["01-16 22:27 Acknowledged Stakeholders Pager"]
    assert (life.status.phase, life.status.commander) == (IncidentPhase.ACKNOWLEDGED, "alice")
    assert life.reasons().count("ClockMissed") == 1


def test_roles_are_engaged_by_the_matrix_and_only_while_it_lasts() -> None:
    """P0: Team Lead after 30 m, Manager after 1 h; it is over before the VP's two hours."""
    life = Life(FRIDAY_NIGHT, "P0").turn().say("Acknowledge").until("2026-01-16 23:10").say("Resolve", reason="fixed")
    life.until("2026-01-17 12:00")
    assert life.heard("Engaged") == [
        "01-16 22:30 Engaged Lead Mail",
        "01-16 23:00 Engaged Manager Mail",
    ]
    assert life.heard("Resolved") == [
        "01-16 23:10 Resolved Stakeholders Room",
        "01-16 23:10 Resolved Stakeholders Tickets",
        "01-16 23:10 Resolved Stakeholders Pager",
        "01-16 23:10 Resolved Primary Mail",
        "01-16 23:10 Resolved Lead Mail",
        "01-16 23:10 Resolved Manager Mail",
    ]


def test_a_low_severity_waits_for_working_hours() -> None:
    """P3 on a Friday night: nobody is paged before Monday, the room hears at once."""
    life = Life(FRIDAY_NIGHT, "P3").until("2026-01-19 09:01")
    assert life.heard("Page", channel="Pager") == ["01-19 09:00 Page Primary Pager"]
    assert life.heard("Update", channel="Room") == ["01-16 22:00 Update Stakeholders Room"]


def test_an_outage_of_ours_is_one_message_to_each_and_a_missed_clock() -> None:
    """Two hours without an operator over a P0: each rung once, roles once, the clock recorded as missed."""
    life = Life(FRIDAY_NIGHT, "P0", answers_by=lambda e: "Retry").turn()
    life.answers_by = Life.answers_by
    life.away_until("2026-01-17 00:00")
    assert life.heard("Page", channel="Mail") == [
        "01-17 00:00 Page Primary Mail",
        "01-17 00:00 Page Secondary Mail",
        "01-17 00:00 Page Escalation Mail",
    ]
    assert len(life.heard("Engaged")) == 3
    assert life.condition("RespondedInTime") == ("False", "ClockMissed")


def test_an_update_that_was_held_up_stands_for_those_missed_meanwhile() -> None:
    """It goes out late, once; the next one comes at its own time."""
    raw = reachable().wire()["severities"]
    policy = reachable(severities={**raw, "P0": {**raw["P0"], "updateEvery": "15m"}})
    life = Life(FRIDAY_NIGHT, "P0", policy=policy, answers_by=lambda e: "Retry").turn()
    life.answers_by = Life.answers_by
    life.away_until("2026-01-17 00:03")
    assert life.heard("Update", channel="Room") == ["01-17 00:03 Update Stakeholders Room"]
    life.until("2026-01-17 00:31")
    assert life.heard("Update", channel="Room")[1:] == [
        "01-17 00:15 Update Stakeholders Room",
        "01-17 00:30 Update Stakeholders Room",
    ]


def test_who_acknowledged_while_we_were_away_was_in_time() -> None:
    """The API server's own instant counts, not when it was read."""
    life = Life(FRIDAY_NIGHT, "P0").turn()
    life.now = utc("2026-01-16 22:10")
    life.say("Acknowledge")
    assert life.condition("RespondedInTime") == ("True", "InTime")


def test_a_contact_that_cannot_be_reached_holds_up_nobody() -> None:
    """Primary's mail is refused and there is no pager: Secondary is paged at once."""

    def refuses_primary(engagement: Engagement) -> str:
        return "Failed" if engagement.whom == "Primary" else "Sent"

    policy = reachable(channels=[CHANNELS[1]])
    life = Life(FRIDAY_NIGHT, "P0", policy=policy, answers_by=refuses_primary).until("2026-01-16 22:02")
    assert life.heard("Page") == ["01-16 22:00 Page Secondary Mail"]
    assert life.condition("Escalating") == ("False", "NotTold")
    assert "NotTold" in life.reasons()


def test_a_channel_that_comes_back_is_tried_until_it_does() -> None:
    """429, 500, no answer: the same message again, later and later, and never twice once it arrived."""
    tries: list[str] = []

    def third_time(engagement: Engagement) -> str:
        tries.append(engagement.key)
        return "Delivered" if tries.count(engagement.key) >= 3 else "Retry"

    policy = reachable(channels=[CHANNELS[2]])
    life = Life(FRIDAY_NIGHT, "P1", policy=policy, answers_by=third_time).until("2026-01-16 22:01")
    assert life.heard("Update") == ["01-16 22:00 Update Stakeholders Room"]
    assert tries.count("update/Room") == 3


def test_nobody_can_be_reached_is_said() -> None:
    """The shipped policy has no Secret: each engagement says NoChannel, and the incident that it tells nobody."""
    life = Life(FRIDAY_NIGHT, "P0", policy=reachable(channels=[])).until("2026-01-16 22:45")
    assert life.told == []
    assert {(e.state, e.reason) for e in life.status.engagements} == {("Failed", "NoChannel")}
    assert life.condition("Escalating") == ("False", "NotTold")


def test_drills_tell_nobody() -> None:
    """Not a message, whatever happens."""
    life = Life(FRIDAY_NIGHT, "P0", spec={"drill": True}).until("2026-01-17 22:00")
    assert life.told == []
    assert life.condition("Escalating") == ("False", "Drill")


def test_a_confidential_incident_reaches_its_list_only() -> None:
    """No ladder, no role, no room: the audience by mail, at the beginning and the end."""
    spec = {"confidential": True, "audience": ["Lead"]}
    life = Life(FRIDAY_NIGHT, "P0", spec=spec).until("2026-01-16 23:30").say("Resolve").until("2026-01-17 01:00")
    assert life.heard() == ["01-16 22:00 Engaged Lead Mail", "01-16 23:30 Resolved Lead Mail"]


def test_severity_up_counts_anew_from_the_detection() -> None:
    """P2 on Friday night becomes P0: the response clock is that of P0 from detection on, who is due is told now."""
    life = Life(FRIDAY_NIGHT, "P2").until("2026-01-16 23:15")
    assert life.heard("Page") == []
    life.say("SetSeverity", severity="P0", reason="payments fail too")
    assert life.status.respond_by == utc("2026-01-16 22:15")
    assert life.condition("RespondedInTime") == ("False", "ClockMissed")
    assert life.heard("Engaged") == ["01-16 23:15 Engaged Lead Mail", "01-16 23:15 Engaged Manager Mail"]
    assert life.heard("Page", channel="Pager") == ["01-16 23:15 Page Primary Pager"]
    assert [(s.severity, s.by) for s in life.status.severities] == [("P2", None), ("P0", "alice")]


def test_severity_down_unpages_nobody() -> None:
    """Who was engaged stays so; who was not is by the lower row."""
    life = Life(FRIDAY_NIGHT, "P0").until("2026-01-16 22:40").say("SetSeverity", severity="P3")
    life.until("2026-01-17 08:00")
    assert life.heard("Engaged") == ["01-16 22:30 Engaged Lead Mail"]
    assert life.heard("Page")[-1] == "01-16 22:40 Page Escalation Mail"


def test_command_changes_hands() -> None:
    """The last who took it has it, and the story says from whom."""
    life = Life(FRIDAY_NIGHT).turn().say("Acknowledge", "alice").say("TakeCommand", "bob", reason="shift change")
    assert (life.status.commander, life.status.acknowledged_by) == ("bob", "bob")
    assert "bob takes command, instead of alice: shift change" in life.status.timeline[-1].message


def test_a_plan_that_waits_pages_again_until_somebody_answers() -> None:
    """Acknowledged at 22:02; at 22:30 a plan waits: the ladder begins anew, and an acknowledgement silences it."""
    life = Life(FRIDAY_NIGHT, "P1").turn()
    life.now = utc("2026-01-16 22:02")
    life.say("Acknowledge").until("2026-01-16 22:30")
    life.runs = (ran(phase="AwaitingApproval", awaitingSince="2026-01-16T22:30:00Z"),)
    life.until("2026-01-16 22:36")
    assert life.heard("Approval", channel="Mail") == [
        "01-16 22:30 Approval Primary Mail",
        "01-16 22:35 Approval Primary Mail",
    ]
    life.say("Acknowledge").until("2026-01-16 23:00")
    assert len(life.heard("Approval", channel="Mail")) == 2
    # What was acknowledged rings no more, so the question is an incident of its own there, and ends with the answer.
    assert life.heard("Resolved") == ["01-16 22:36 Resolved Stakeholders Pager"]


def test_the_room_hears_every_turn_once() -> None:
    """Opened, acknowledged, cause, resolved: one message each, updated in place by its reference."""
    life = Life(FRIDAY_NIGHT).until("2026-01-16 22:01").say("Acknowledge").until("2026-01-16 22:02")
    life.say("SetRootCause", reason="the pool is empty").until("2026-01-16 22:03").say("Note", reason="nothing new")
    heard = life.until("2026-01-16 22:10").heard("Update", channel="Room")
    assert [text[6:11] for text in heard] == ["22:00", "22:01", "22:02"]
    life.say("Resolve")
    assert life.heard(channel="Room")[-1] == "01-16 22:10 Resolved Stakeholders Room"


def test_turns_that_come_fast_are_one_message() -> None:
    """Nobody reads ten updates in ten seconds: the next one says all that is new."""
    life = Life(FRIDAY_NIGHT).until("2026-01-16 22:05")
    for severity in ("P0", "P2", "P1", "P0"):
        life.say("SetSeverity", severity=severity)
    life.until("2026-01-16 22:06")
    assert [text[6:11] for text in life.heard("Update", channel="Room")] == ["22:00", "22:05", "22:05"]


def test_a_room_that_refuses_is_not_asked_for_ever() -> None:
    """A turn of the incident is no reason to try again what failed for good: the next `updateEvery` is."""
    tries: list[str] = []

    def refuses(engagement: Engagement) -> str:
        tries.append(engagement.key)
        return "Failed"

    policy = reachable(channels=[CHANNELS[2]])
    Life(FRIDAY_NIGHT, policy=policy, answers_by=refuses).turn().say("Acknowledge").until("2026-01-16 23:00")
    assert tries.count("update/Room") == 1


def test_what_is_redacted_in_the_store_is_no_turn() -> None:
    """A cause that looks like a credential is stored without it, and read back: nothing is new."""
    life = Life(FRIDAY_NIGHT).until("2026-01-16 22:01")
    life.say("SetRootCause", reason=f"password=hunter2hunter2 {'x' * 300} token=abcdefabcdefabcdef")
    life.incident = Incident.model_validate(redact_json(life.incident.wire()))
    heard = len(life.until("2026-01-16 22:05").heard("Update", channel="Room"))
    life.incident = Incident.model_validate(redact_json(life.incident.wire()))
    assert len(life.until("2026-01-16 23:00").heard("Update", channel="Room")) == heard


def test_runs_tell_of_diagnosis_cause_impact_and_mend() -> None:
    """What runs know stands in the incident; the worst impact stays its peak; a person's cause is not overwritten."""
    life = Life(FRIDAY_NIGHT).turn()
    life.runs = (
        ran(
            diagnosedAt="2026-01-16T22:01:30Z",
            rootCause={"summary": "role lacks dynamodb:GetItem", "reasons": []},
            impact={"summary": "40% of 100 requests", "percent": 40},
        ),
    )
    life.turn()
    times = life.status.times
    assert (times.diagnosis_started, times.cause_found) == (utc("2026-01-16 22:01"), utc("2026-01-16 22:01:30"))
    assert life.status.cause is not None
    assert life.status.cause.probable
    life.say("SetRootCause", reason="the audit removed it").say("SetImpact", percent=15)
    life.runs = (
        ran(
            phase="Verifying",
            rootCause={"summary": "something else", "reasons": []},
            impact={"summary": "60% of 10 requests", "percent": 60},
            conditions=[
                {
                    "type": "Mitigated",
                    "status": "True",
                    "reason": "Helped",
                    "lastTransitionTime": "2026-01-16T22:03:00Z",
                }
            ],
        ),
    )
    life.turn()
    assert life.status.cause.summary == "the audit removed it"
    impact = life.status.impact
    assert impact is not None
    assert (impact.method, impact.percent, impact.peak) == ("Person", 15, 60)
    assert life.status.phase == IncidentPhase.MITIGATED


def test_an_estimate_is_told_as_one_and_gives_way() -> None:
    """What was measured replaces it, in the peak as well; none replaces what was measured or what a person said."""
    life = Life(FRIDAY_NIGHT).turn()

    def told(method: str, percent: float) -> tuple[str, float | None, float | None]:
        life.runs = (ran(impact={"summary": f"{percent}%", "method": method, "percent": percent}),)
        life.turn()
        assert life.status.impact is not None
        return life.status.impact.method, life.status.impact.percent, life.status.impact.peak

    assert told("Measured", 0) == ("Measured", 0, 0)
    assert told("Estimated", 100) == ("Estimated", 100, 100)
    assert told("Measured", 34) == ("Measured", 34, 34)
    assert told("Estimated", 90) == ("Measured", 34, 34)
    life.say("SetImpact", percent=15)
    assert told("Estimated", 90) == ("Person", 15, 34)
    assert told("Measured", 40) == ("Person", 15, 40)


def test_three_runs_are_one_incident_that_ends_with_the_last() -> None:
    """One clock; it is over when no run is at work and the one that ended last brought users back."""
    life = Life(FRIDAY_NIGHT).turn()
    life.runs = (ran("a"), ran("b"), ran("c"))
    life.turn()
    life.runs = (ended("a", "Unresolved", utc("2026-01-16 22:10"), "NoFixApplies"), ran("b"), ran("c"))
    life.turn()
    life.runs = (ended("b", "Resolved", utc("2026-01-16 22:20")), ran("c"))
    life.now = utc("2026-01-16 22:20")
    life.turn()
    assert life.status.phase == IncidentPhase.OPEN
    life.runs = (ended("c", "Resolved", utc("2026-01-16 22:23")),)
    life.now = utc("2026-01-16 22:23")
    life.turn()
    assert life.status.phase == IncidentPhase.RESOLVED
    assert life.status.times.resolved == utc("2026-01-16 22:23")
    assert life.status.times.restored == utc("2026-01-16 22:19")
    assert len(life.status.severities) == 1


def test_a_run_that_ends_without_a_cure_leaves_it_to_people() -> None:
    """Unresolved, NothingFound, deleted: the incident stays open."""
    life = Life(FRIDAY_NIGHT).turn()
    life.runs = (ran("a"), ran("b"))
    life.turn()
    life.runs, life.gone = (ended("a", "NothingFound", utc("2026-01-16 22:10"), "NothingFound"),), frozenset({"b"})
    life.turn()
    assert life.status.phase == IncidentPhase.OPEN
    assert [(r.name, r.outcome) for r in life.status.runs] == [("a", "NothingFound"), ("b", "Deleted")]


def test_a_run_that_joins_after_the_end_opens_it_again() -> None:
    """Within reopenWithin: people are paged anew, and hear of the second end."""
    life = Life(FRIDAY_NIGHT).turn().say("Acknowledge")
    life.runs = (ran("a"),)
    life.turn()
    life.runs = (ended("a", "Resolved", utc("2026-01-16 22:20")),)
    life.until("2026-01-16 22:30")
    assert life.status.phase == IncidentPhase.RESOLVED
    life.runs = (ran("b"),)
    life.until("2026-01-16 22:31")
    assert (life.status.phase, life.status.reopened) == (IncidentPhase.OPEN, 1)
    assert life.heard("Page", channel="Pager") == ["01-16 22:00 Page Primary Pager", "01-16 22:30 Page Primary Pager"]
    life.runs = (ended("b", "Resolved", utc("2026-01-16 22:40")),)
    life.until("2026-01-16 22:40")
    assert life.status.phase == IncidentPhase.RESOLVED
    assert len(life.heard("Resolved", channel="Room")) == 2


def test_it_is_closed_when_every_duty_is_done_and_settled_after_the_time_to_reopen() -> None:
    """Messages prove two duties, three good looks a third; people do the others; then nothing is watched any more."""
    life = Life(FRIDAY_NIGHT).turn().say("Acknowledge").say("Resolve", reason="restarted").until("2026-01-16 23:01")
    closeout = life.status.closeout
    assert closeout is not None
    assert closeout.due_at == utc("2026-01-16 23:00")
    assert closeout.looks == ("Passing",) * 3
    done = {duty.name for duty in closeout.duties if duty.state == "Done"}
    assert done == {"ticketUpdated", "stakeholdersTold", "metricsNormal"}
    assert life.condition("ClosedOut") == ("False", "Overdue")
    life.say("RecordAction", reason="alarm fired in a test", duty="alertsWorking")
    life.say("RecordAction", reason="looked at carts and login", duty="secondaryImpacts")
    assert life.status.phase == IncidentPhase.CLOSED
    assert life.condition("ClosedOut") == ("True", "DutiesDone")
    life.until("2026-01-17 21:59")
    assert not life.status.settled
    life.until("2026-01-17 22:01")
    assert life.status.settled
    assert life.wake_at is None


@pytest.mark.parametrize("state", ["Failing", "Unknown"])
def test_metrics_that_are_not_normal_prove_nothing(state: str) -> None:
    """Unknown is never healthy: the duty stays open."""
    life = Life(FRIDAY_NIGHT, looks=state).turn().say("Resolve").until("2026-01-17 00:00")
    closeout = life.status.closeout
    assert closeout is not None
    assert closeout.looks == (state,) * 3
    assert "metricsNormal" in [duty.name for duty in closeout.duties if duty.state == "Open"]


PROOFS = {
    "alertsWorking": Proof(state="Passing", message="these checks pass: alarm"),
    "secondaryImpacts": Proof(state="Passing", message="these checks pass: neighbours"),
}


def duty_of(life: Life, name: str) -> tuple[str, str | None, str]:
    """Return a duty's state, who did it, and what is written beside it."""
    assert life.status.closeout is not None
    found = next(duty for duty in life.status.closeout.duties if duty.name == name)
    return found.state, found.by, found.message


def test_the_operators_own_proof_closes_it_at_the_last_look() -> None:
    """Every duty by the machine, with what was seen; what the last look proves is not late."""
    life = Life(FRIDAY_NIGHT, duties=PROOFS).turn().say("Acknowledge").say("Resolve").until("2026-01-16 22:59")
    assert duty_of(life, "alertsWorking") == ("Open", None, "")
    life.until("2026-01-16 23:00")
    assert life.status.phase == IncidentPhase.CLOSED
    assert duty_of(life, "alertsWorking") == ("Done", "incident-operator", "these checks pass: alarm")
    assert duty_of(life, "secondaryImpacts") == ("Done", "incident-operator", "these checks pass: neighbours")
    assert life.condition("ClosedOut") == ("True", "DutiesDone")
    assert "CloseOutOverdue" not in [entry.reason for entry in life.status.timeline]


@pytest.mark.parametrize("state", ["Failing", "Unknown"])
def test_a_duty_that_is_not_proven_asks_a_person_and_says_what_was_seen(state: Any) -> None:
    """Never ticked; the duty is overdue, and a person does it."""
    seen = Proof(state=state, message="alarm: AlarmFiring (alarm errors is in ALARM since 22:10:00Z)")
    life = Life(FRIDAY_NIGHT, duties={**PROOFS, "alertsWorking": seen}).turn().say("Resolve").until("2026-01-16 23:01")
    assert life.status.phase == IncidentPhase.RESOLVED
    state_, by, message = duty_of(life, "alertsWorking")
    assert (state_, by) == ("Open", None)
    assert message == f"{state}, a person has to look: {seen.message}"
    assert duty_of(life, "secondaryImpacts")[0] == "Done"
    assert life.condition("ClosedOut") == ("False", "Overdue")
    (told,) = [entry.message for entry in life.status.timeline if entry.reason == "CloseOutOverdue"]
    assert told == "not done within the hour: alertsWorking"
    (told,) = [tell.message for tell in life.tells if tell.reason == "DutyLookedAt" and "alerts" in tell.message]
    assert seen.message in told
    life.say("RecordAction", reason="rang it by hand", duty="alertsWorking")
    assert duty_of(life, "alertsWorking") == ("Done", "alice", "rang it by hand")
    assert life.status.phase == IncidentPhase.CLOSED


def test_what_a_person_did_before_is_not_proven_anew() -> None:
    """Their word stands; the looks go on for what is open."""
    life = Life(FRIDAY_NIGHT, duties=PROOFS).turn().say("Resolve")
    life.say("RecordAction", reason="rang it by hand", duty="alertsWorking")
    life.say("RecordAction", reason="saw the graphs", duty="metricsNormal").until("2026-01-16 23:00")
    assert duty_of(life, "alertsWorking") == ("Done", "alice", "rang it by hand")
    assert duty_of(life, "metricsNormal") == ("Done", "alice", "saw the graphs")
    assert duty_of(life, "secondaryImpacts")[1] == "incident-operator"


def test_a_last_look_that_never_comes_makes_the_duties_overdue() -> None:
    """Five minutes later: asking is no excuse for ever."""
    life = Life(FRIDAY_NIGHT).turn().say("Resolve").until("2026-01-16 22:45")
    lost = IncidentView(incident=life.incident, policy=life.policy, can_look=False)
    for at, reason in (("23:04", "DutiesOpen"), ("23:05", "Overdue")):
        status = decide_incident(lost, utc(f"2026-01-16 {at}")).status
        assert next(c.reason for c in status.conditions if c.type == "ClosedOut") == reason


def test_a_duplicate_and_a_false_alarm_end_at_once() -> None:
    """Whoever heard of it hears that it is over; nothing more can be said but a note."""
    life = Life(FRIDAY_NIGHT, missing=frozenset({"inc-9"})).turn().say("Duplicate", duplicateOf="inc-9")
    assert (life.answers[-1].effective, life.answers[-1].reason) == (False, "NoSuchIncident")
    life.say("Duplicate", duplicateOf="inc-2")
    assert (life.status.phase, life.status.duplicate_of) == (IncidentPhase.DUPLICATE, "inc-2")
    assert life.heard("Resolved", channel="Pager")
    assert life.status.settled
    other = Life(FRIDAY_NIGHT).turn().say("FalsePositive", reason="the probe was broken")
    assert other.status.phase == IncidentPhase.FALSE_POSITIVE


def test_what_comes_too_late_is_said() -> None:
    """Once it is over nobody takes it, but everything about the past can still be said."""
    life = Life(FRIDAY_NIGHT).turn().say("RecordAction", reason="x", duty="alertsWorking")
    assert life.answers[-1].reason == "NotYet"
    life.say("Publish", reason="we are on it")
    assert life.answers[-1].reason == "NoStatusPage"
    life.say("Resolve").say("Acknowledge").say("SetRootCause", reason="a full disk")
    assert [(a.effective, a.reason) for a in life.answers[-2:]] == [(False, "TooLate"), (True, "RootCauseSet")]


def test_a_persons_words_are_published_and_nothing_else() -> None:
    """One message for each Publish, with that text."""
    channels = [*CHANNELS, {"name": "Page", "type": "StatusPage", "secretRef": {"name": "page"}}]
    life = Life(FRIDAY_NIGHT, policy=reachable(channels=channels)).until("2026-01-16 23:00")
    assert life.heard(channel="Page") == []
    life.say("Publish", reason="Checkout is slow; we are on it.")
    assert life.heard(channel="Page") == ["01-16 23:00 Publish Customers Page"]
    assert [e.about for e in life.status.engagements if e.channel == "Page"] == ["Checkout is slow; we are on it."]


def test_stakeholders_hear_as_often_as_the_severity_says() -> None:
    """With updateEvery 30 m: at 0, 30, 60 minutes."""
    raw = reachable().wire()
    raw["severities"]["P1"]["updateEvery"] = "30m"
    policy = type(reachable()).model_validate(raw)
    life = Life(FRIDAY_NIGHT, policy=policy).turn().say("Acknowledge").until("2026-01-16 23:05")
    heard = life.heard("Update", channel="Room")
    assert [text[6:11] for text in heard] == ["22:00", "22:00", "22:30", "23:00"]


def test_without_a_policy_it_says_that_nobody_is_told() -> None:
    """An incident that a person opened where there is none."""
    life = Life(FRIDAY_NIGHT, policy=None).until("2026-01-17 22:00")
    assert life.condition("Escalating") == ("False", "NoPolicy")


def test_a_run_opens_its_own_incident() -> None:
    """By ticket and detection one for all; a credential in the title is not copied; who only looks opens none."""
    run = a_run()
    spec = run.spec.model_copy(
        update={
            "incident": run.spec.incident.model_copy(
                update={"title": "login fails with password=hunter2hunter2", "ticket": "INC-1"}
            )
        }
    )
    run = run.model_copy(update={"spec": spec})
    assert has_incident(run)
    opened = incident_of(run)
    assert opened.metadata.name == incident_name(run)
    assert "hunter2hunter2" not in str(opened.wire())
    looking = spec.model_copy(update={"drill": True, "incident": spec.incident.model_copy(update={"ticket": None})})
    assert not has_incident(run.model_copy(update={"spec": looking}))


def test_the_page_every_five_minutes_keeps_one_entry() -> None:
    """A night of pages does not grow the object."""
    life = Life(FRIDAY_NIGHT, "P0").until(utc(FRIDAY_NIGHT) + minutes(600))
    assert len(life.status.engagements) < 20
    escalation = next(e for e in life.status.engagements if e.key == "page/Escalation/Pager")
    assert escalation.times > 100


def test_the_end_is_told_as_the_document_does_with_what_a_ticket_needs() -> None:
    """Its lines in its order; then what was done, what is temporary and what comes next, of the review."""
    life = Life(FRIDAY_NIGHT, spec={"ticket": "INC-1"}).turn().say("Acknowledge").say("SetImpact", percent=15)
    life.say("SetRootCause", reason="connection pool exhaustion").say("RecordAction", reason="raised the pool")
    life.now = utc("2026-01-16 22:23")
    life.say("Resolve", reason="the pool is larger")
    review = PostIncidentReview.model_validate(
        {
            "metadata": {"name": "inc-1"},
            "spec": {
                "detectedAt": "2026-01-16T22:00:00Z",
                "actionItems": [{"text": "Watch the pool", "owner": "@platform-team", "dueDate": "2026-01-23"}],
            },
            "status": {
                "plans": [
                    {
                        "name": "p",
                        "run": "r",
                        "fix": "raiseMemory",
                        "title": "raise memory",
                        "state": "Helped",
                        "startedAt": "2026-01-16T22:10:00Z",
                        "temporaryUntil": "2026-01-17T22:10:00Z",
                    }
                ]
            },
        }
    )
    ended_ = next(e for e in life.status.engagements if e.key == "resolved/Tickets")
    assert life.policy is not None
    notice = notice_of(life.incident, ended_, life.policy, life.now, review)
    assert notice.title == "[RESOLVED] P1 Incident - Checkout fails"
    assert notice.lines == (
        "Incident: INC-1",
        "Status: RESOLVED",
        "Duration: 23 minutes",
        "Impact: 15% of requests, by alice",
        "Root Cause: connection pool exhaustion",
        "Resolution: the pool is larger",
        "Resolved at: 2026-01-16 22:23 UTC",
        "",
        "Actions Taken:",
        "- 2026-01-16 22:00 UTC - alice did by hand: raised the pool",
        "- 2026-01-16 22:10 UTC - raise memory: Helped",
        "",
        "Temporary Fixes:",
        "- raise memory, until 2026-01-17 22:10 UTC",
        "",
        "Next Steps:",
        "- Watch the pool (@platform-team, by 2026-01-23)",
    )
