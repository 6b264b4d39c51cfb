"""`kubectl incident review` and `message`: what is found by which name, and why there is nothing to show."""

import json
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.adapters.clock import Clock
from incident_operator.api.review import PostIncidentReview
from incident_operator.api.run import IncidentRun
from incident_operator.cli.review_command import as_page
from incident_operator.core.review import review_name
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import run


def of(of_run: IncidentRun, *, due_in: float = 48, **spec: Any) -> PostIncidentReview:
    """Return the drafted review of a run. Units: hours until it is due."""
    return PostIncidentReview.model_validate(
        {
            "metadata": {"name": review_name(of_run), "namespace": "shopsmart", "uid": "review-uid"},
            "spec": {
                "ticket": "INC-2024-0001",
                "detectedAt": "2024-01-15T14:30:00Z",
                "draftedAt": "2024-01-15T14:53:00Z",
                "title": "Birthday mails",
                "severity": "P1",
                "wentWell": ["x <script>alert(1)</script> [y](javascript:alert(1))"],
                **spec,
            },
            "status": {
                "runs": [{"name": of_run.metadata.name, "uid": "run-uid", "startedAt": "2024-01-15T14:35:00Z"}],
                "dueAt": Clock().now() + timedelta(hours=due_in),
                "timeline": [
                    {
                        "run": of_run.metadata.name,
                        "at": "2024-01-15T14:36:00Z",
                        "reason": "Helped",
                        "text": "it helped",
                        "source": "plan p",
                    }
                ],
            },
        }
    )


def ask(command: Command, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end; return exit code, stdout, stderr."""
    process = command(*arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_review_is_found_by_its_name_and_by_its_run(api: FakeApi, command: Command) -> None:
    """Also once the run is deleted; its facts come when asked for."""
    ended = run("resolved")
    api.put(ended, of(ended))
    code, out, err = ask(command, "review", ended.metadata.name)
    assert (code, err) == (0, "")
    assert out.startswith("# Post-Incident Review: INC-2024-0001\n\n## Incident Summary\n")
    assert "## Facts" not in out
    assert ask(command, "review", review_name(ended)) == (0, out, "")
    assert ask(command, "review", "INC-2024-0001") == (0, out, "")
    api.delete(ended)
    code, out, _ = ask(command, "review", ended.metadata.name, "--facts")
    assert code == 0
    assert "- 14:36:00 - Helped: it helped (inc-2024-0001, plan p)\n" in out


def test_the_page_runs_nothing(api: FakeApi, command: Command) -> None:
    """HTML and programs that somebody wrote into a review are text."""
    ended = run("resolved")
    api.put(ended, of(ended))
    code, out, _ = ask(command, "review", ended.metadata.name, "--html")
    assert (code, out.startswith("<!DOCTYPE html>")) == (0, True)
    assert "<h2>What Went Well</h2>" in out
    assert "<script" not in out
    assert "href" not in out
    assert "&lt;script&gt;" in out
    assert "<script" not in as_page("# a\n<script>x</script>\n\n[y](javascript:alert(1))", "<script>")


def test_json_is_the_object_and_a_message_its_end(api: FakeApi, command: Command) -> None:
    """For programs, and for stakeholders."""
    ended = run("resolved")
    review = of(ended)
    api.put(ended, review)
    assert json.loads(ask(command, "review", ended.metadata.name, "-o", "json")[1])["spec"] == review.spec.wire()
    code, out, _ = ask(command, "message", ended.metadata.name)
    assert (code, out.splitlines()[0]) == (0, "Subject: [RESOLVED] P1 Incident - Birthday mails")


def test_what_is_late_is_said_beside_the_review(api: FakeApi, command: Command) -> None:
    """On stderr, with what to type; a finished review is never late."""
    ended = run("resolved")
    item = {"text": "mend it", "dueDate": "2024-01-22"}
    owned = {"text": "test it", "dueDate": "2024-01-23", "owner": "@platform-team"}
    api.put(ended, of(ended, due_in=-1, actionItems=[item, owned, {**owned, "done": True}]))
    code, _, err = ask(command, "review", ended.metadata.name)
    assert code == 0
    assert "overdue: the review was due " in err
    assert f"kubectl patch pir -n shopsmart {review_name(ended)} --type=merge" in err
    assert [line for line in err.splitlines() if "action item" in line] == [
        "overdue: action item of 2024-01-22, owned by nobody: mend it",
        "overdue: action item of 2024-01-23, owned by @platform-team: test it",
    ]
    api.put(of(ended, due_in=-1, complete=True))
    assert ask(command, "review", ended.metadata.name)[2] == ""


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ((), "there is no IncidentRun 'inc-2024-0001'"),
        ((run("applying"),), "run inc-2024-0001 has not ended"),
        ((run("resolved"),), "run inc-2024-0001 has no review"),
        ((run("resolved", startedAt=None),), "it has no review"),
        ((run("resolved"), of(run("resolved"), draftedAt=None)), "has no draft yet"),
    ],
)
def test_where_there_is_none_it_says_why(api: FakeApi, command: Command, stored: tuple[Any, ...], why: str) -> None:
    """One line, and what to type below it."""
    api.put(*stored)
    code, out, err = ask(command, "review", "inc-2024-0001")
    assert (code, out) == (1, "")
    assert why in err.splitlines()[0]
    assert len(err.splitlines()) > 1
