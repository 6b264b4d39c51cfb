"""`kubectl incident review --patch`: a diff that git takes, with every comment kept, and a patch of one generation."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from incident_operator.api.review import PostIncidentReview
from incident_operator.api.runbook import ClusterRunbook
from incident_operator.cli.errors import CommandError
from incident_operator.cli.runbook_patch import amended, diff, runbook_in
from incident_operator.core.review import review_name
from incident_operator.core.runbook_lesson import Lesson, learn, learned
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import run
from tests.cli.test_review import ask, of
from tests.repo.files import ROOT

FILE = "manifests/runbooks/lambda-failures.yaml"
SHIPPED = (ROOT / FILE).read_text()
RUN = run("resolved")


def a_review(**spec: Any) -> PostIncidentReview:
    """Return the finished review of a run of the shipped runbook."""
    base = of(RUN, complete=True, primaryCause={"text": "the policy: was changed", "probable": False}, **spec)
    resolution = {"phase": "Resolved", "outcome": "Runbook", "summary": "given back", "by": "Runbook"}
    handled = {**base.status.runs[0].wire(), "runbook": "lambda-failures", "runbookKind": "ClusterRunbook"}
    status = {
        **base.status.wire(),
        "runs": [handled],
        "duration": "23m",
        "resolution": {**resolution, "at": "2024-01-15T15:03:00Z"},
    }
    return PostIncidentReview.model_validate({**base.wire(), "status": status})


def git(folder: Path, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run git in a folder, whatever this machine's own configuration says."""
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with the shipped manifests, and be in it."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as shipped"]):
        done = git(folder, *arguments)
        assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    return folder


def write(repository: Path, text: str) -> None:
    """Let the manifest be another one."""
    (repository / FILE).write_bytes(text.encode())
    assert git(repository, "commit", "-qam", "another").returncode == 0


def spec_of(text: str) -> dict[str, Any]:
    """Return the spec of the manifest's runbook."""
    (value,) = [one for one in yaml.safe_load_all(text) if one and one["metadata"]["name"] == "lambda-failures"]
    return dict(value["spec"])


def wanted(text: str, review: PostIncidentReview) -> dict[str, Any]:
    """Return the spec after the lesson."""
    found = learn(review, ClusterRunbook.model_validate({"metadata": {"name": "x"}, "spec": spec_of(text)}).spec)
    assert isinstance(found, Lesson), found
    return learned(spec_of(text), found)


def applied(repository: Path, api: FakeApi, command: Command, review: PostIncidentReview) -> str:
    """Ask for the diff, let git check and apply it; return the manifest's text after it."""
    api.put(RUN, review)
    code, patch, err = ask(command, "review", RUN.metadata.name, "--patch=git", "--file", FILE)
    assert code == 0, err
    for check in (["--check"], []):
        done = git(repository, "apply", "--whitespace=error-all", *check, stdin=patch)
        assert (done.returncode, done.stderr) == (0, ""), patch
    return (repository / FILE).read_bytes().decode()


def test_git_applies_the_diff_and_every_comment_stays(repository: Path, api: FakeApi, command: Command) -> None:
    """Only lines that learn something change; what comes out is the runbook that was meant."""
    review = a_review()
    after = applied(repository, api, command, review)
    assert spec_of(after) == wanted(SHIPPED, review)
    comments = re.compile(r"^\s*#.*$", re.MULTILINE)
    assert comments.findall(after) == comments.findall(SHIPPED) != []
    changed = git(repository, "diff", "--numstat").stdout.split()
    assert changed == ["10", "4", FILE], "a symptom and five lines of history; four figures"
    assert "    - ticket: INC-2024-0001\n      title: Birthday mails\n" in after
    assert "      rootCause: 'the policy: was changed'\n" in after
    assert "    incidents: 48\n    successRate: 0.7846\n    meanResolution: 18m6s\n" in after


def test_asked_again_there_is_nothing_to_add(repository: Path, api: FakeApi, command: Command) -> None:
    """Neither from the file, nor by applying the same diff twice."""
    applied(repository, api, command, a_review())
    code, out, err = ask(command, "review", RUN.metadata.name, "--patch=git", "--file", FILE)
    assert (code, out) == (2, "")
    assert err == "INC-2024-0001 is in the runbook's history already: nothing is added twice\n"


def test_the_same_diff_does_not_apply_twice(repository: Path, api: FakeApi, command: Command) -> None:
    """Git says so, and changes nothing."""
    api.put(RUN, a_review())
    _, patch, err = ask(command, "review", "INC-2024-0001", "--patch=git", "--file", FILE)
    assert err == "read it, then apply it: git apply FILE\n"
    assert git(repository, "apply", stdin=patch).returncode == 0
    once = (repository / FILE).read_text()
    again = git(repository, "apply", stdin=patch)
    assert (again.returncode, "patch does not apply" in again.stderr) == (1, True)
    assert (repository / FILE).read_text() == once


def test_a_folder_below_the_repositorys_is_as_good(
    repository: Path, api: FakeApi, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The diff names the file from where one is, as git apply reads it; above there is nothing to name."""
    api.put(RUN, a_review())
    monkeypatch.chdir(repository / "manifests")
    code, patch, _ = ask(command, "review", RUN.metadata.name, "--patch=git", "-f", "runbooks/lambda-failures.yaml")
    assert (code, git(repository / "manifests", "apply", stdin=patch).returncode) == (0, 0)
    assert spec_of((repository / FILE).read_text())["knowledge"]["incidents"] == 48
    code, out, err = ask(command, "review", RUN.metadata.name, "--patch=git", "-f", f"../../repository/../{FILE}")
    assert (code, out, "is not below this folder" in err) == (1, "", True)


HISTORY = SHIPPED[SHIPPED.index("  history:\n") :]
KNOWLEDGE = SHIPPED[SHIPPED.index("  knowledge:\n") : SHIPPED.index("  history:\n")]
ANOTHER = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: lambda-failures-notes}\n"


@pytest.mark.parametrize(
    "text",
    [
        SHIPPED.replace(HISTORY, ""),
        SHIPPED.replace(HISTORY, "  history: []\n"),
        SHIPPED.replace(HISTORY, "  history: [{ticket: INC-1, impact: 'a, b'}]  # the oldest\n"),
        SHIPPED.replace(HISTORY, "  history:\n  - ticket: INC-1\n    impact: >-\n      a\n      b\n\n\n# the end\n"),
        SHIPPED.replace(KNOWLEDGE, "  knowledge: {incidents: 47, successRate: 0.78}\n"),
        SHIPPED.replace(KNOWLEDGE, "  knowledge:\n    # counted by hand\n    incidents: 47  # until March\n"),
        SHIPPED.replace(KNOWLEDGE, "  knowledge:\n    source: >-\n      the runbook,\n      3.2\n    incidents: 47\n"),
        SHIPPED.replace(KNOWLEDGE, ""),
        SHIPPED.rstrip("\n"),
        SHIPPED.replace("\n", "\r\n"),
        ANOTHER + "---\n" + SHIPPED + ANOTHER,
    ],
    ids=[
        *("no history", "an empty one", "one in brackets", "a folded text at its end", "figures in braces"),
        *("comments at figures", "a folded source", "no figures", "no newline at the end", "CRLF", "among others"),
    ],
)
def test_however_the_manifest_is_written_the_diff_says_what_was_meant(repository: Path, text: str) -> None:
    """And keeps every comment and the ends of lines."""
    write(repository, text)
    review = a_review(title="\u00dcber: mails")
    document = runbook_in(text, FILE, review.status.runs[0])
    lesson = learn(review, document.runbook)
    assert isinstance(lesson, Lesson)
    patch = diff(text, amended(text, document, lesson, FILE), FILE)
    # Bytes: in text mode a carriage return would be lost on the way.
    done = subprocess.run(["git", "apply"], cwd=repository, input=patch.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + patch
    after = (repository / FILE).read_bytes().decode()
    assert spec_of(after) == wanted(text, review)
    assert re.findall("#.*$", text, re.MULTILINE) == re.findall("#.*$", after, re.MULTILINE)
    assert (after.count("\r\n") == after.count("\n")) is ("\r\n" in text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SHIPPED.replace("  knowledge:\n", "  knowledge: &k\n").replace(HISTORY, "  history: *h\n"), "is no YAML"),
        (SHIPPED.replace("name: lambda-failures", "name: other"), "has no runbook lambda-failures"),
        (SHIPPED.replace("incidents: 47", "incidents: many"), "is no valid runbook"),
        ("kind: ClusterRunbook\nmetadata: {name: lambda-failures}\nspec: []\n", "has no runbook lambda-failures"),
        ("\t- a: [", "is no YAML"),
    ],
    ids=["an alias of nothing", "another runbook", "an invalid one", "no spec", "no YAML"],
)
def test_a_file_that_is_not_the_runbook_is_refused(text: str, why: str) -> None:
    """In one line."""
    with pytest.raises(CommandError, match=why):
        runbook_in(text, FILE, a_review().status.runs[0])


def test_what_is_shared_by_an_anchor_is_refused_not_garbled(repository: Path, api: FakeApi, command: Command) -> None:
    """One edit would change two places."""
    shared = SHIPPED.replace("  symptoms:\n", "  symptoms: &texts\n").replace(
        "    notes:\n", "    notes: *texts\n    x:\n"
    )
    write(repository, shared)
    api.put(RUN, a_review())
    code, out, err = ask(command, "review", RUN.metadata.name, "--patch=git", "--file", FILE)
    assert (code, out) == (1, "")
    assert "can't be edited line by line" in err


def test_the_json_patch_is_of_the_stored_runbook(api: FakeApi, command: Command) -> None:
    """As in kubectl incident review inc-2023-1247 --patch, with the line to type.

    A review of before, which does not say the runbook's kind, finds it too.
    """
    (shipped,) = yaml.safe_load_all(SHIPPED)
    metadata = {"name": "lambda-failures", "generation": 3}
    api.put(RUN, a_review(), ClusterRunbook.model_validate({**shipped, "metadata": metadata}))
    code, out, err = ask(command, "review", RUN.metadata.name, "--patch")
    assert (code, err) == (
        *(0, "read it, then apply it: kubectl patch clusterrunbook lambda-failures --type=json --patch-file FILE\n"),
    )
    patch = json.loads(out)
    assert patch[0] == {"op": "test", "path": "/metadata/generation", "value": 3}
    assert patch[-1]["value"]["ticket"] == "INC-2024-0001"
    review = a_review().wire()
    del review["status"]["runs"][0]["runbookKind"]
    api.put(PostIncidentReview.model_validate(review))
    assert ask(command, "review", review_name(RUN), "--patch")[:2] == (0, out)
    api.put(of(RUN))
    code, out, err = ask(command, "review", RUN.metadata.name, "--patch")
    assert (code, out, "so of no runbook" in err) == (1, "", True)


@pytest.mark.parametrize("arguments", [["--patch=git"], ["--file", "a.yaml"], ["--patch=json", "--file", "a.yaml"]])
def test_a_diff_is_of_a_file(command: Command, arguments: list[str]) -> None:
    """Anything else is wrong usage."""
    code, _, err = ask(command, "review", "a", *arguments)
    assert (code, "go together" in err) == (64, True)
