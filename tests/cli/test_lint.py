"""`lint`: what the API server and the operator would say, with line and column, and without a cluster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from incident_operator.api.crd import schema
from incident_operator.api.kinds import KINDS
from incident_operator.api.meta import KubernetesObject
from incident_operator.core.expressions import compile_expression
from tests.builders import a_runbook
from tests.repo.files import ROOT

PROGRAM = str(Path(sys.executable).parent / "kubectl-incident")
RUN = """\
# a run
apiVersion: ops.shopsmart.com/v1alpha1
kind: IncidentRun
metadata: {name: inc}
spec:
  incident:
    title: mails fail
    severty: P1
  runbookRef: {name: lambda-failures}
  startDeadline: 1.5h
"""


def incident(command: str, folder: Path = ROOT, stdin: str = "") -> tuple[int, str, str]:
    """Run a whole command line of kubectl's plugin, without any cluster."""
    program, *arguments = command.split()
    assert program == "kubectl"
    assert arguments.pop(0) == "incident"
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, "KUBECONFIG": os.devnull},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_is_shipped_is_well() -> None:
    """The page's own command; then everything there is."""
    shown = "kubectl incident lint manifests/runbooks/lambda-failures.yaml examples/incident-run.yaml"
    assert incident(shown) == (0, "", "2 objects checked, 0 problems\n")
    files = [
        str(p.relative_to(ROOT))
        for folder in ("examples", "manifests/runbooks")
        for p in (ROOT / folder).glob("*.yaml")
    ]
    code, out, _ = incident(" ".join(["kubectl incident lint dev/shop/grant.yaml manifests/base/people.yaml", *files]))
    assert (code, out) == (0, "")


def test_each_problem_has_its_line_and_field() -> None:
    """Unknown fields and wrong values, from stdin too."""
    code, out, err = incident("kubectl incident lint -", stdin=RUN)
    assert code == 1
    unknown, value = out.splitlines()
    assert unknown == (
        "<stdin>:8: spec.incident.severty: unknown field; "
        "known here: detectedAt, name, severity, ticket, title (column 5)"
    )
    assert value.startswith("<stdin>:10: spec.startDeadline: '1.5h' is not a duration; write for example 90s")
    assert err == "1 object checked, 2 problems\n"


def test_the_rules_of_the_schema_are_checked_with_its_defaults() -> None:
    """In the words of the API server, which says the same when it is applied."""
    text = RUN.replace("title: mails fail\n    severty", "severity").replace("1.5h", "90m")
    code, out, _ = incident("kubectl incident lint -", stdin=text + "  automation: {applyUpTo: Low, askUpTo: None}\n")
    assert (code, out.splitlines()) == (
        1,
        [
            "<stdin>:5: spec: askUpTo: None is observe only: applyUpTo must be None too (column 1)",
            "<stdin>:6: spec.incident: describe the incident (title, severity) or join one that exists (name) "
            "(column 3)",
        ],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_of_our_kinds_can_be_evaluated(kind: type[KubernetesObject]) -> None:
    """A rule that does not compile here would be never checked; `sum` is the API server's own, and used once."""

    def rules(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (r["rule"] for r in node.get("x-kubernetes-validations", ()) if "oldSelf" not in r["rule"])
            for inner in node.values():
                yield from rules(inner)

    found = list(rules(schema(kind)))
    for rule in found:
        if ".sum()" not in rule:
            compile_expression(rule, "rule", boolean=True)
    assert sum(".sum()" in rule for rule in found) <= 1


def test_a_runbook_is_judged_as_the_operator_judges_it(tmp_path: Path) -> None:
    """Actions, inputs, reasons, expressions: at the place where each is written."""
    spec = a_runbook(impact={"failed": "checks.users.output.failed", "total": "checks.userz.output + "}).wire()
    manifest = {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "ClusterRunbook",
        "metadata": {"name": "r"},
        "spec": spec,
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    code, out, _ = incident("kubectl incident lint r.yaml", tmp_path)
    assert code == 1
    lines = (tmp_path / "r.yaml").read_text().splitlines()
    places = {}
    for problem in out.splitlines():
        file, number, field, _ = problem.split(":", 3)
        assert file == "r.yaml"
        places[field.strip()] = lines[int(number) - 1].strip()
    assert places["spec.steps[0].fixes[0].onFindings[0]"] == "- RoleLacks"
    assert places["spec.impact.total"].startswith("total: ")
    assert "of the expression" in out


def test_a_run_is_checked_against_a_runbook_of_the_same_files(tmp_path: Path) -> None:
    """A required parameter that is missing is found before anybody is paged."""
    (tmp_path / "run.yaml").write_text(RUN.replace("severty", "severity").replace("1.5h", "90m"))
    assert incident("kubectl incident lint run.yaml", tmp_path)[0] == 0
    (tmp_path / "runbook.yaml").write_text((ROOT / "manifests" / "runbooks" / "lambda-failures.yaml").read_text())
    code, out, _ = incident("kubectl incident lint run.yaml runbook.yaml", tmp_path)
    assert (code, out.count("\n")) == (1, 1)
    assert out.startswith("run.yaml:5: spec.parameters.functionName: parameter 'functionName' is required")


def test_a_trial_and_an_archived_runbook_are_checked_too(tmp_path: Path) -> None:
    """What a run would be refused for, a trial would be as well."""
    maintenance = "  maintenance:\n    owner: o\n    trial: {parameters: {maximumMemory: 1}}\n"
    runbook = (ROOT / "manifests/runbooks/lambda-failures.yaml").read_text()
    head, _, tail = runbook.partition("  maintenance:\n")
    rest = tail[tail.index("  knowledge:") :]
    (tmp_path / "book.yaml").write_text(head + maintenance + rest)
    code, out, _ = incident("kubectl incident lint book.yaml", tmp_path)
    assert code == 1
    assert "a ClusterRunbook says where it is tried: write maintenance.trial.namespace" in out
    assert "parameters.functionName: parameter 'functionName' is required" in out
    assert "parameters.maximumMemory: parameter 'maximumMemory' is at least 128; 1 is less" in out
    archived = "  maintenance:\n    owner: o\n    archived: {reason: gone}\n"
    (tmp_path / "book.yaml").write_text(head + archived + rest)
    (tmp_path / "run.yaml").write_text((ROOT / "examples/nothing-found.yaml").read_text())
    code, out, _ = incident("kubectl incident lint book.yaml run.yaml", tmp_path)
    (line,) = out.splitlines()
    assert "spec.runbookRef.name: ClusterRunbook lambda-failures is archived: gone" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", "<stdin>:2: this is no YAML"),
        ("apiVersion: ops.shopsmart.com/v1\nkind: Runbook", "<stdin>:1: apiVersion: write ops.shopsmart.com/v1alpha1"),
        ("kind: Runbok\napiVersion: ops.shopsmart.com/v1alpha1", "<stdin>:1: kind: there is no kind 'Runbok'"),
    ],
)
def test_what_is_no_manifest_is_told_as_such(text: str, said: str) -> None:
    """With its line."""
    code, out, _ = incident("kubectl incident lint -", stdin=text)
    assert (code, said in out) == (1, True)


def test_other_kinds_are_left_alone_and_counted() -> None:
    """A kustomize output has many of them; those of a List are looked into."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "anything": 1}
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [config, yaml.safe_load(RUN)]})
    code, out, err = incident("kubectl incident lint -", stdin=text)
    assert (code, out.count("\n")) == (1, 2)
    assert err == "1 object checked, 2 problems; 1 object of other kinds not checked\n"


def test_a_file_that_is_not_there_is_an_error() -> None:
    """One line, no traceback."""
    code, _, err = incident("kubectl incident lint nope.yaml")
    assert (code, err.startswith("error: nope.yaml can't be read: ")) == (1, True)


def test_a_policys_zone_is_looked_up_and_its_rules_checked() -> None:
    """The shipped policy is well; a zone that does not exist and a role's unknown contact are not."""
    shipped = (ROOT / "manifests/base/escalation-policy.yaml").read_text()
    assert incident("kubectl incident lint -", stdin=shipped)[:2] == (0, "")
    wrong = shipped.replace("timeZone: UTC", "timeZone: Europe/Berlln").replace("contacts: [Primary]", "contacts: [P]")
    code, out, _ = incident("kubectl incident lint -", stdin=wrong)
    assert code == 1
    assert "spec.timeZone: there is no time zone 'Europe/Berlln'; write an IANA name" in out
    assert "spec: a role names a contact that is not in spec.contacts" in out
