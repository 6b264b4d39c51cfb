"""`suggest`: the cluster's runbooks, or those of files, with the reason for each."""

import json
from pathlib import Path

import yaml

from incident_operator.api.meta import Metadata
from incident_operator.api.runbook import ClusterRunbook, Runbook, RunbookSpec
from tests.builders import a_runbook
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.test_lint import incident
from tests.cli.test_say import finish
from tests.repo.files import ROOT

SHIPPED = "manifests/runbooks/lambda-failures.yaml"


def shipped() -> ClusterRunbook:
    """Return the shipped runbook."""
    return ClusterRunbook.model_validate(yaml.safe_load((ROOT / SHIPPED).read_text()))


def ours(name: str, spec: RunbookSpec, namespace: str = "shopsmart") -> Runbook:
    """Return a namespace's runbook."""
    return Runbook(metadata=Metadata(name=name, namespace=namespace), spec=spec)


BUCKETS = a_runbook(title="S3 Access Issues", incidentType="S3Access", symptoms=["Users get 403 for images in S3"])


def test_a_runbook_is_suggested_for_what_people_see(api: FakeApi, command: Command) -> None:
    """As printed in the page of commands: the cluster's and the namespace's, each with its reason."""
    api.put(shipped(), ours("buckets", BUCKETS), ours("elsewhere", BUCKETS, "another"))
    shown = "kubectl incident suggest users cannot log in 403 from S3"
    code, out, err = finish(command(*shown.split()[2:]))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("1. Runbook shopsmart/buckets: S3 Access Issues (score ")
    assert lines[1] == "   symptoms (users, 403, S3): Users get 403 for images in S3"
    assert "   runbookRef: {kind: Runbook, name: buckets}" in lines
    assert any(line.startswith("2. ClusterRunbook lambda-failures: ") for line in lines)
    assert "elsewhere" not in out


def test_when_nothing_matches_all_are_listed(api: FakeApi, command: Command) -> None:
    """Exit 2, the words that matched nothing, and no runbook that is made up."""
    api.put(shipped(), ours("buckets", BUCKETS))
    code, out, _ = finish(command("suggest", "frobnicator", "\x1b[31mspins"))
    assert (code, out.splitlines()) == (
        2,
        [
            "matched nothing: frobnicator, 31mspins",
            "No runbook matches. There are:",
            "  ClusterRunbook lambda-failures: Lambda Function Failures",
            "  Runbook shopsmart/buckets: S3 Access Issues",
        ],
    )


def test_json_says_the_same(api: FakeApi, command: Command) -> None:
    """For programs."""
    api.put(shipped(), ours("buckets", BUCKETS))
    code, out, _ = finish(command("suggest", "images of frobnicators", "-o", "json"))
    told = json.loads(out)
    (found,) = told["runbooks"]
    assert (code, told["unmatched"], told["ignored"]) == (0, ["frobnicators"], ["of"])
    assert (found["kind"], found["namespace"], found["name"]) == ("Runbook", "shopsmart", "buckets")
    assert found["score"] > 0
    assert found["matches"] == [{"where": "symptoms", "text": BUCKETS.symptoms[0], "words": ["images"]}]
    assert [other["name"] for other in told["others"]] == ["lambda-failures"]


def test_a_file_needs_no_cluster(tmp_path: Path) -> None:
    """As `lint` reads it; findings of the catalogue count too."""
    code, out, err = incident(f"kubectl incident suggest RoleLacksPermission -f {SHIPPED}")
    assert (code, err) == (0, "")
    assert "   findings (RoleLacksPermission): RoleLacksPermission" in out.splitlines()
    broken = (ROOT / SHIPPED).read_text().replace("incidentType:", "incidentTyp:")
    (tmp_path / "broken.yaml").write_text(broken)
    code, _, err = incident("kubectl incident suggest S3 --file broken.yaml", tmp_path)
    assert (code, err.splitlines()[0].startswith("error: broken.yaml:")) == (1, True)
    assert err.splitlines()[-1] == "  all that is wrong with it: kubectl incident lint broken.yaml"


def test_where_there_is_no_runbook_it_says_how_to_get_one(command: Command) -> None:
    """Not an empty answer."""
    code, _, err = finish(command("suggest", "403"))
    assert (code, err.splitlines()[0]) == (1, "error: there is no runbook in the cluster and namespace shopsmart")


def test_who_may_not_read_runbooks_is_told_so(api: FakeApi, command: Command) -> None:
    """By the API server's own words; nothing to look for is wrong usage."""
    api.refusal = (403, 'User "mallory" cannot list resource "runbooks"')
    code, _, err = finish(command("suggest", "403"))
    assert (code, 'User "mallory" cannot list' in err) == (1, True)
    assert finish(command("suggest"))[0] == 64
