"""What people see of a run: the screen, the end, the lines. Snapshots as plain text."""

import io
from datetime import timedelta

import pytest
from rich.console import Console, Group

from incident_operator.api.plan import CallState, PlanState
from incident_operator.api.run import CheckState, FixState
from incident_operator.cli.changes import Scene, changes
from incident_operator.cli.glossary import PLAN_STATES
from incident_operator.cli.look import Look
from incident_operator.cli.render import screen, summary
from incident_operator.cli.text import MARKS, clean, length, until
from tests.cli.story import PLAN, at, entry, plan, run

APPLYING = """\
INC-2024-0001  P1  Birthday mails are not sent
Remediating for 9s · shopsmart/inc-2024-0001 · runbook lambda-failures
now    applying: set BirthdayServiceAccess back to version v1
waits  for inc-2024-0001-restoreaccess-1-1a2b3c4d
cause  lambda-execution-role may not dynamodb:GetItem on table/birthday-users (probable)
impact 212 of 240 failed (88 %)
type   kubectl incident plan -n shopsmart inc-2024-0001
Steps
 ✘ 1 Immediate Assessment  by 14:32:00Z
    ✔ configuration Passed
    ✘ access Failed  RoleLacksAccess
 ○ 2 Quick Remediation  by 14:40:00Z
    ○ fix restoreAccess Proposed
Findings
 ✘ RoleLacksAccess  lambda-execution-role may not dynamodb:GetItem on table/birthday-users \
by arn:aws:iam::123456789012:user/deployer (root cause)
 · RecentChange  CreatePolicyVersion by deployer
Plans
 ▶ set BirthdayServiceAccess back to version v1  Applying  risk Low
     BirthdayServiceAccess, default version
       -   Action: ses:SendEmail
       +   Action: dynamodb:GetItem
     ✔ 1/2 iam:CreatePolicyVersion
     ▶ 2/2 iam:SetDefaultPolicyVersion
Recovery
 ✘ Failing
Timeline
 14:30:00Z  Started: runbook lambda-failures: Lambda Function Failures
 14:30:02Z  RoleLacksAccess: lambda-execution-role may not dynamodb:GetItem on table/birthday-users
 14:30:03Z  Diagnosed: 1 problem found by 2 checks
 14:30:04Z  Applying: set BirthdayServiceAccess back to version v1"""


def applying() -> Scene:
    """Return the scene while the second of two calls is under way."""
    journal = [entry(0, "Succeeded", 4), entry(1, "Intended", 6)]
    return Scene(run=run("applying"), plans=(plan("Applying", calls=journal),))


AWAITING = """\
INC-2024-0001  P1  Birthday mails are not sent
AwaitingApproval for 9s · shopsmart/inc-2024-0001 · runbook lambda-failures
now    waiting for a person
waits  for approval until 18:30:00Z (in 3h59m)
cause  lambda-execution-role may not dynamodb:GetItem on table/birthday-users (probable)
impact 212 of 240 failed (88 %)
type   kubectl incident cancel -n shopsmart inc-2024-0001
Decide
 nothing is changed until a person decides; without an answer it ends at 18:30:00Z (in 3h59m)
 ■ restoreAccess  set BirthdayServiceAccess back to version v1  (risk Low, GrantsAccess, tier Low)
     blocked  ApprovalMissing: a person must agree: ActorUnknown
     blocked  Frozen: the sale
     agreed   bob@shopsmart.com at 14:30:09Z, tier Low, holds until 15:30:09Z
     read     kubectl incident plan -n shopsmart inc-2024-0001 restoreAccess
     yes      kubectl incident approve -n shopsmart inc-2024-0001 restoreAccess --override Frozen --reason '...'
     no       kubectl incident reject -n shopsmart inc-2024-0001 restoreAccess --reason '...'
Steps"""


def test_a_screen_that_waits_for_a_person_says_what_to_read_and_what_to_type() -> None:
    """Above everything else, and no command twice."""
    approve = "kubectl incident approve -n shopsmart inc-2024-0001 restoreAccess --override Frozen --reason '...'"
    now = {
        "doing": "waiting for a person",
        "waitingFor": "approval",
        "until": at(14400),
        "next": [approve, "kubectl incident cancel -n shopsmart inc-2024-0001"],
    }
    gates = [
        {"name": "ApprovalMissing", "message": "a person must agree: ActorUnknown"},
        {"name": "Frozen", "hard": False, "message": "the sale"},
    ]
    agreed = {"responder": "bob@shopsmart.com", "intervention": "i", "at": at(9), "expiresAt": at(3609), "tier": "Low"}
    scene = Scene(
        run=run("diagnosed", phase="AwaitingApproval", now=now), plans=(plan(gates=gates, approvals=[agreed]),)
    )
    lines = [text.plain.rstrip() for text in screen(scene, at(10))]
    assert "\n".join(lines).startswith(AWAITING)
    assert any(approve in text.plain for text in screen(scene, at(10), size=(80, 24))), "a small terminal has it too"


def test_a_plan_that_no_approval_can_lift_is_not_offered_for_one() -> None:
    """Only no and read are left to type."""
    gates = [{"name": "PermissionMissing", "message": "the role may not iam:PutRolePolicy"}]
    scene = Scene(run=run("diagnosed", phase="AwaitingApproval"), plans=(plan(gates=gates),))
    text = "\n".join(line.plain for line in screen(scene, at(10)))
    assert "no approval lifts it: The grant's role lacks a permission" in text
    assert "incident approve" not in text


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (
            {"paused": {"by": "bob", "at": at(9), "reason": "a deployment runs"}},
            "paused by bob at 14:30:09Z: a deployment runs\n"
            "type   kubectl incident resume -n shopsmart inc-2024-0001\n",
        ),
        (
            {"cancelling": {"by": "bob", "at": at(9), "then": "Revert"}},
            "ends   cancelled by bob at 14:30:09Z, what is in place is put back\n",
        ),
    ],
)
def test_what_a_person_holds_or_ends_is_said_with_their_name(status: dict[str, object], shown: str) -> None:
    """And how to go on."""
    scene = Scene(run=run("applying", **status))
    assert shown in "\n".join(text.plain for text in screen(scene, at(10)))


def test_the_screen_answers_what_it_does_what_it_waits_for_and_what_to_type() -> None:
    """The whole story on one screen, and not the command its reader is running."""
    assert "\n".join(text.plain for text in screen(applying(), at(10))) == APPLYING


@pytest.mark.parametrize("height", [12, 18, 24, 40])
def test_the_screen_fits_the_terminal_and_keeps_its_head(height: int) -> None:
    """A small terminal loses the timeline first and the head never; a long line takes as many rows as it needs."""
    console = Console(width=60, height=height, file=io.StringIO())
    lines = screen(applying(), at(10), size=(60, height))
    with console.capture() as printed:
        console.print(Group(*lines))
    shown = printed.get().splitlines()
    assert len(shown) <= height
    assert "now    applying: set BirthdayServiceAccess back to version" in [row.rstrip() for row in shown[:5]]


def test_a_small_terminal_still_shows_findings_and_plans() -> None:
    """What is well gives way to what is not."""
    shown = [text.plain for text in screen(applying(), at(10), size=(80, 30))]
    assert not any("configuration Passed" in line or "RecentChange" in line for line in shown)
    assert any(line.startswith(" ✘ RoleLacksAccess") for line in shown)
    assert "     ▶ 2/2 iam:SetDefaultPolicyVersion" in shown


def test_marks_have_an_ascii_form() -> None:
    """A terminal that knows no Unicode is no reason for question marks."""
    shown = "\n".join(text.plain for text in screen(applying(), at(10), look=Look(ascii_only=True)))
    assert "    x access Failed" in shown
    assert not set("✔✘○▶") & set(shown)


def test_the_end_says_what_it_means_what_changed_and_what_to_type() -> None:
    """Resolved by a fix."""
    ended = plan("Helped", calls=[entry(0, "Succeeded", 4)])
    assert [text.plain for text in summary(run("resolved"), (ended,))] == [
        "Resolved/Runbook after 6m10s",
        "  A fix of the runbook helped, and recovery held.",
        "  set BirthdayServiceAccess back to version v1",
        "  probable cause: lambda-execution-role may not dynamodb:GetItem on table/birthday-users",
        "  impact: 212 of 240 failed (88 %)",
        "  changed: set BirthdayServiceAccess back to version v1: Helped",
        "  type: kubectl incident plan -n shopsmart inc-2024-0001",
    ]


def test_a_plan_that_was_never_applied_changed_nothing() -> None:
    """What was only planned is not told as done."""
    ended = run("diagnosed", phase="Unresolved", outcome="ObserveOnly", finishedAt=at(9))
    assert "  changed: nothing" in [text.plain for text in summary(ended, (plan("Expired"),))]


def test_lines_tell_each_change_once_with_its_own_time() -> None:
    """From the diagnosis to the first call: what a log shows."""
    before = Scene(run=run("diagnosing"))
    after = Scene(run=run("diagnosed"), plans=(plan("Applying", calls=[entry(0, "Succeeded", 4)], startedAt=at(4)),))
    assert [change.line() for change in changes(before, after, at(6))] == [
        "14:30:02Z  check                access Failed: RoleLacksAccess",
        "14:30:02Z  RoleLacksAccess      "
        "lambda-execution-role may not dynamodb:GetItem on table/birthday-users [check access]",
        "14:30:03Z  Diagnosed            1 problem found by 2 checks",
        "14:30:03Z  info                 RecentChange: CreatePolicyVersion by deployer [check changes]",
        f"14:30:03Z  plan                 {PLAN}: set BirthdayServiceAccess back to version v1; risk Low; 2 calls",
        f"14:30:04Z  plan                 {PLAN} Applying",
        "14:30:05Z  call                 1/2 iam:CreatePolicyVersion: Succeeded",
        "14:30:03Z  recovery             Failing",
    ]
    assert changes(after, after, at(7)) == []


def test_a_call_that_is_repeated_or_refused_is_told() -> None:
    """Every turn of the journal is a line, with the request id to ask AWS about."""
    first = [entry(0, "Failed", 4, error="ThrottlingException", requestId="abc")]
    second = [*first, entry(0, "Intended", 8, attempt=2)]
    one, two = Scene(run=run("applying"), plans=(plan("Applying", calls=first),)), None
    two = Scene(run=run("applying"), plans=(plan("Applying", calls=second),))
    told = [c.text for c in changes(Scene(run=run("applying")), one, at(9)) if c.label == "call"]
    assert told == ["1/2 iam:CreatePolicyVersion: Failed: ThrottlingException (request abc)"]
    assert [c.text for c in changes(one, two, at(9))] == ["1/2 iam:CreatePolicyVersion: Intended, attempt 2"]


def test_foreign_text_can_not_command_a_terminal_nor_forge_a_line() -> None:
    """What others wrote is one line without control characters, direction overrides or credentials."""
    assert clean("a\x1b[2J\nResolved\u202e x") == "a [2J Resolved x"
    assert "hunter2" not in clean("postgres://shop:hunter2@db refused")
    hostile = run("diagnosed", rootCause={"summary": "x\n\x1b[31mResolved", "reasons": []})
    shown = [text.plain for text in screen(Scene(run=hostile), at(10))]
    assert "cause  x [31mResolved (probable)" in shown


@pytest.mark.parametrize("state", [*CheckState, *FixState, *PlanState, *CallState])
def test_every_state_has_its_mark(state: str) -> None:
    """No state is shown as one that this version does not know."""
    assert state in MARKS


def test_every_plan_state_is_explained() -> None:
    """The glossary knows the plan's states, and no others."""
    assert set(PLAN_STATES) == set(PlanState)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "400ms"),
        (42, "42s"),
        (192, "3m12s"),
        (3600, "1h"),
        (7505, "2h5m"),
        (-5, "-5s"),
        (266400, "3d2h"),
    ],
)
def test_lengths_of_time_read_as_people_say_them(seconds: float, text: str) -> None:
    """Two units at most."""
    assert length(timedelta(seconds=seconds)) == text


def test_an_instant_says_how_far_away_it_is() -> None:
    """Ahead and past."""
    assert (until(at(192), at(0)), until(at(0), at(5))) == ("14:33:12Z (in 3m12s)", "14:30:00Z (5s ago)")
