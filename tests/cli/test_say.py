"""What people say: one Intervention each, exactly as meant, and the operator's answer in plain words."""

import subprocess
from typing import Any

import pytest

from incident_operator.api.intervention import Intervention
from incident_operator.cli import glossary
from incident_operator.cli.words import WORDS
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import PLAN, at, entry, plan, run
from tests.repo.files import ROOT

RUN = "inc-2024-0001"
ASKED = {"gates": [{"name": "ApprovalMissing", "hard": True, "message": "a person must agree: ActorUnknown"}]}
OTHER = "inc-2024-0001-rollback-1-99999999"
HARMLESS: tuple[str, str, str] = ("True", "Accepted", "it counts")


def finish(process: "subprocess.Popen[str]", typed: str = "") -> tuple[int, str, str]:
    """Type, wait for the process and return its exit code, stdout and stderr."""
    out, err = process.communicate(typed, timeout=60)
    return process.returncode, out, err


def stored(api: FakeApi) -> dict[str, Any]:
    """Return the one intervention that was stored, which the model must take."""
    (raw,) = api.stored("Intervention")
    Intervention.model_validate(raw)
    return raw


def test_an_approval_shows_the_plan_asks_for_the_fix_and_is_exactly_about_it(api: FakeApi, command: Command) -> None:
    """The page first; then the fix's name; then the operator's own words."""
    api.put(run("diagnosed"), plan(**ASKED))
    api.operator = lambda raw: ("True", "Approved", "1 of 2: another person must agree")
    code, out, _ = finish(command("approve", RUN, "--reason", "seen the diff"), "restoreAccess\n")
    assert code == 0
    page, answer = out.split("Type restoreAccess to approve this plan, anything else to leave it: ")
    for shown in ("+   Action: dynamodb:GetItem", "touches", "risk        Low, GrantsAccess (tier Low)", "Undo"):
        assert shown in page
    assert "blocked     ApprovalMissing: a person must agree: ActorUnknown" in page
    assert answer == (
        "restoreAccess approved: 1 of 2: another person must agree\n"
        f"  type: kubectl incident watch -n shopsmart {RUN}\n"
    )
    raw = stored(api)
    assert raw["metadata"]["generateName"] == f"{RUN}-approve-"
    assert raw["metadata"]["ownerReferences"] == [
        {"apiVersion": "ops.shopsmart.com/v1alpha1", "kind": "RemediationPlan", "name": PLAN, "uid": "plan-uid"}
    ]
    assert raw["spec"] == {
        "target": {"kind": "RemediationPlan", "name": PLAN, "uid": "plan-uid"},
        "verb": "Approve",
        "responder": "alice@shopsmart.com",
        "reason": "seen the diff",
        "tier": "Low",
    }
    ((method, path, _),) = api.writes
    assert (method, "fieldValidation=Strict" in path) == ("POST", True)


@pytest.mark.parametrize(
    ("typed", "said"),
    [("restoreacces\n", "that is not 'restoreAccess': nothing was approved"), ("", "scripts say --yes")],
)
def test_nothing_is_approved_unless_the_fix_was_typed(api: FakeApi, command: Command, typed: str, said: str) -> None:
    """A wrong name and an empty pipe change nothing."""
    api.put(run("diagnosed"), plan(**ASKED))
    code, _, err = finish(command("approve", RUN), typed)
    assert (code, api.writes) == (1, [])
    assert said in err


def test_override_and_break_glass_go_into_the_approval(api: FakeApi, command: Command) -> None:
    """With a reason; a script says --yes."""
    soft = [{"name": name, "hard": False, "message": "not now"} for name in ("Frozen", "Cooldown")]
    api.put(run("diagnosed"), plan(gates=soft))
    api.operator = lambda raw: HARMLESS
    options = ("--override", "Frozen", "--override", "Cooldown", "--break-glass", "--reason", "users wait")
    code, out, _ = finish(command("approve", RUN, "--yes", *options))
    assert code == 0
    assert (
        "type        kubectl incident approve -n shopsmart inc-2024-0001 restoreAccess "
        "--override Frozen --override Cooldown --reason '...'"
    ) in out
    spec = stored(api)["spec"]
    assert (spec["override"], spec["breakGlass"], spec["reason"]) == (["Frozen", "Cooldown"], True, "users wait")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--override", "Frozen"), "--override and --break-glass need a --reason"),
        (("--break-glass",), "--override and --break-glass need a --reason"),
        (("--override", "GrantMissing", "--reason", "x"), "GrantMissing can't be overridden: it is a hard gate"),
        (("--override", "not a gate", "--reason", "x"), "override.0: String should match pattern"),
    ],
)
def test_what_the_server_would_refuse_is_not_sent(
    api: FakeApi, command: Command, options: tuple[str, ...], said: str
) -> None:
    """The error says what to write instead."""
    api.put(run("diagnosed"), plan(gates=[{"name": "GrantMissing", "message": "no grant"}]))
    code, _, err = finish(command("approve", RUN, "--yes", *options))
    assert (code, api.writes, said in err) == (1, [], True)


def test_of_several_open_plans_each_is_listed_with_what_to_type(api: FakeApi, command: Command) -> None:
    """Nobody has to know a plan's name."""
    other = plan(name=OTHER, spec={"fix": "rollBack", "title": "move LIVE back to 4"}, **ASKED)
    api.put(run("diagnosed"), plan(**ASKED), other)
    code, _, err = finish(command("approve", RUN))
    approve = f"kubectl incident approve -n shopsmart {RUN}"
    assert (code, api.writes) == (1, [])
    assert err == (
        f"error: run {RUN} has 2 such plans: say which\n"
        f"  {approve} restoreAccess    # set BirthdayServiceAccess back to version v1\n"
        f"  {approve} rollBack    # move LIVE back to 4\n"
    )
    api.operator = lambda raw: HARMLESS
    assert finish(command("reject", RUN, "rollBack"))[0] == 0
    assert stored(api)["spec"]["target"]["name"] == OTHER


def test_what_no_approval_lets_through_is_not_what_is_meant(api: FakeApi, command: Command) -> None:
    """Of several plans that wait, one is asked: it needs no name."""
    ceiling = {"name": "RiskAboveCeiling", "hard": True, "message": "risk Destructive is above askUpTo Disruptive"}
    api.put(run("diagnosed"), plan(**ASKED), plan(name=OTHER, spec={"fix": "rollBack"}, gates=[ceiling]))
    api.operator = lambda raw: HARMLESS
    assert finish(command("approve", RUN, "--yes"))[0] == 0
    assert stored(api)["spec"]["target"]["name"] == PLAN


def test_a_plan_in_whose_place_is_another_says_which(api: FakeApi, command: Command) -> None:
    """Whoever copied its name from an old message reads what to approve; without a name it is the one that waits."""
    message = f"{OTHER} takes its place: a newer diagnosis plans this fix otherwise"
    replaced = plan("Superseded", reason="Replaced", message=message, settled=True)
    api.put(run("diagnosed"), replaced, plan(**ASKED, name=OTHER))
    code, _, err = finish(command("approve", RUN, PLAN, "--yes"))
    assert (code, api.writes) == (1, [])
    assert f"{PLAN} is Superseded: {message}" in err
    api.operator = lambda raw: HARMLESS
    assert finish(command("approve", RUN, "--yes"))[0] == 0
    assert stored(api)["spec"]["target"]["name"] == OTHER


def test_a_plan_that_is_no_longer_open_is_not_approved(api: FakeApi, command: Command) -> None:
    """The error says what became of it."""
    api.put(run("applying"), plan("Applying", calls=[entry(0, "Intended", 4)]))
    _, _, err = finish(command("approve", RUN, "restoreAccess", "--yes"))
    assert f"error: no plan of restoreAccess waits for a decision: {PLAN} is Applying" in err


@pytest.mark.parametrize("reason", ["SelfApproval", "TooLate"])
def test_a_word_that_does_not_count_says_why_and_ends_with_2(api: FakeApi, command: Command, reason: str) -> None:
    """The operator's message, and what its reason means."""
    api.put(run("diagnosed"), plan(**ASKED))
    api.operator = lambda raw: ("False", reason, "as the operator says it")
    code, out, _ = finish(command("approve", RUN, "--yes"))
    assert code == 2
    assert f"restoreAccess not approved: {reason}: as the operator says it\n  {glossary.ANSWERS[reason]}\n" in out


def test_without_an_answer_the_word_is_stored_and_the_exit_is_4(api: FakeApi, command: Command) -> None:
    """It says that the operator may be down, how to look, and how to do it by hand."""
    api.put(run("diagnosed"), plan(**ASKED))
    code, _, err = finish(command("approve", RUN, "--yes", "--timeout", "1s"))
    name = stored(api)["metadata"]["name"]
    assert code == 4
    assert f"no answer yet: {name} is stored" in err
    assert "kubectl -n incident-system get pods,leases" in err
    assert f"kubectl incident script -n shopsmart {RUN} --fix restoreAccess" in err


def test_no_wait_returns_at_once(api: FakeApi, command: Command) -> None:
    """It says where the answer will be."""
    api.put(run("diagnosed"), plan(**ASKED))
    code, out, _ = finish(command("reject", RUN, "--no-wait"))
    assert (code, f"kubectl get intv -n shopsmart {stored(api)['metadata']['name']}" in out) == (0, True)


def test_an_answer_is_found_through_a_forgotten_history(api: FakeApi, command: Command) -> None:
    """A watch that ends with 410 is begun again."""
    api.put(run("diagnosed"))
    process = command("pause", RUN, "--timeout", "30s")
    api.wait_for_watches(1)
    api.expire_watches()
    api.wait_for_watches(2)
    api.answer_word(stored(api), lambda raw: ("True", "Paused", ""))
    assert finish(process)[:2] == (0, f"{RUN} paused\n  type: kubectl incident watch -n shopsmart {RUN}\n")


def test_an_answer_that_may_not_be_read_is_no_answer(api: FakeApi, command: Command) -> None:
    """What was said is said: the exit code does not tell otherwise."""
    api.put(run("diagnosed"))

    def operator(raw: dict[str, Any]) -> None:
        api.refusal = (403, "interventions is forbidden")

    api.operator = operator
    code, _, err = finish(command("pause", RUN, "--timeout", "1s"))
    assert (code, "no answer yet" in err) == (4, True)


def test_a_refusal_by_admission_is_told_with_the_right_to_ask_for(api: FakeApi, command: Command) -> None:
    """The server's own words, and the check that answers for this very plan."""
    api.put(run("diagnosed"), plan(**ASKED))
    api.write_refusal = (403, "ValidatingAdmissionPolicy 'people' denied request: mallory may not approve-low")
    code, _, err = finish(command("approve", RUN, "--yes"))
    assert code == 1
    assert "denied request: mallory may not approve-low" in err
    assert f"kubectl auth can-i approve-low remediationplans.ops.shopsmart.com/{PLAN} -n shopsmart" in err


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (("pause", RUN, "--reason", "wait"), {"verb": "Pause", "reason": "wait"}),
        (("resume", RUN), {"verb": "Resume"}),
        (("retry", RUN, "restoreAccess"), {"verb": "Retry", "fix": "restoreAccess"}),
        (("skip", RUN, "restoreAccess"), {"verb": "Skip", "fix": "restoreAccess"}),
        (("cancel", RUN), {"verb": "Cancel", "then": "Leave"}),
        (("cancel", RUN, "--revert"), {"verb": "Cancel", "then": "Revert"}),
        (("note", RUN, "called the vendor"), {"verb": "Note", "reason": "called the vendor"}),
    ],
)
def test_words_about_a_run(api: FakeApi, command: Command, arguments: tuple[str, ...], spec: dict[str, str]) -> None:
    """Each is one intervention about the run, owned by it."""
    api.put(run("diagnosed"))
    api.operator = lambda raw: HARMLESS
    assert finish(command(*arguments))[0] == 0
    raw = stored(api)
    target = {"kind": "IncidentRun", "name": RUN, "uid": "run-uid"}
    assert raw["spec"] == {"target": target, "responder": "alice@shopsmart.com", **spec}
    assert raw["metadata"]["ownerReferences"][0]["uid"] == "run-uid"


def test_a_fix_that_the_run_does_not_have_is_not_skipped(api: FakeApi, command: Command) -> None:
    """A typing error is answered with the near names."""
    api.put(run("diagnosed"))
    assert finish(command("skip", RUN, "restoreAcces"))[2] == (
        f"error: run {RUN} has no fix 'restoreAcces'\n  there are: restoreAccess\n"
    )


@pytest.mark.parametrize("word", ["revert", "keep"])
def test_what_was_applied_is_found_after_the_end_of_the_run_too(api: FakeApi, command: Command, word: str) -> None:
    """Among plans of which a call was made; one that changed nothing is none of them."""
    never = plan("Expired", name=OTHER, spec={"fix": "rollBack"}, settled=True)
    api.put(run("resolved"), plan("Helped", calls=[entry(0, "Succeeded", 4)], settled=True), never)
    api.operator = lambda raw: HARMLESS
    code, out, _ = finish(command(word, RUN, "--reason", "r"))
    assert (code, stored(api)["spec"]["target"]["name"]) == (0, PLAN)
    assert out.startswith("restoreAccess: set BirthdayServiceAccess back to version v1 (Helped)\n")


def test_what_outlives_its_run_can_still_be_reverted(api: FakeApi, command: Command) -> None:
    """A temporary fix keeps its plan when the run is deleted."""
    api.put(plan("Helped", calls=[entry(0, "Succeeded", 4)]))
    api.operator = lambda raw: HARMLESS
    assert finish(command("revert", RUN))[0] == 0
    assert stored(api)["spec"]["verb"] == "Revert"


def test_the_track_record_counts_how_the_fix_ended_in_other_runs(api: FakeApi, command: Command) -> None:
    """By outcome, without this run's own plans."""
    ended = [
        plan(state, name=f"other-{number}", spec={"runRef": {"name": "other", "uid": f"other-{number}"}})
        for number, state in enumerate(("Helped", "Helped", "Worse", "Superseded"))
    ]
    api.put(run("diagnosed"), plan(**ASKED), *ended)
    out = finish(command("approve", RUN))[1]
    assert "before      this fix in other runs here: 2 Helped, 1 Worse\n" in out


def test_what_was_said_stands_on_the_page_with_its_answer(api: FakeApi, command: Command) -> None:
    """Who, what, why, and whether it counts."""
    api.put(run("diagnosed"), plan(**ASKED))
    api.operator = lambda raw: ("False", "SelfApproval", "")
    finish(command("approve", RUN, "--yes", "--reason", "looks right"))
    said = "said        alice@shopsmart.com Approve at 14:31:00Z: looks right (does not count, SelfApproval)\n"
    assert said in finish(command("plan", RUN))[1]


def test_a_run_that_waits_for_people_says_what_to_read_and_what_to_type(api: FakeApi, command: Command) -> None:
    """In the lines of watch, each once."""
    waiting = {
        "phase": "AwaitingApproval",
        "now": {"doing": "waiting for a person", "waitingFor": "approval", "until": at(14400)},
        "paused": {"by": "bob@shopsmart.com", "at": at(8), "reason": "a deployment runs"},
    }
    approval = {
        "responder": "bob@shopsmart.com",
        "intervention": "i",
        "at": at(9),
        "expiresAt": at(3609),
        "tier": "Low",
        "reason": "agreed on the bridge",
    }
    api.put(run("diagnosed", **waiting), plan(**ASKED, approvals=[approval]))
    out = finish(command("watch", RUN, "--timeout", "1s"))[1]
    for shown in (
        f"blocked              {PLAN}: ApprovalMissing: a person must agree: ActorUnknown\n",
        f"type                 kubectl incident approve -n shopsmart {RUN} restoreAccess\n",
        f"agreed               {PLAN}: bob@shopsmart.com at 14:30:09Z, tier Low, holds until 15:30:09Z: agreed on the",
        "paused               by bob@shopsmart.com: a deployment runs\n",
    ):
        assert out.count(shown) == 1, out


def test_the_page_of_commands_has_every_word_and_the_answers() -> None:
    """One truth, in two places."""
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [word.name for word in WORDS if f"| `{word.name} " not in text] == []
    assert [reason for reason, meaning in glossary.ANSWERS.items() if f"| {reason} | {meaning} |" not in text] == []
