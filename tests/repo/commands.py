"""The commands that documents show, and what proves that each works.

Two kinds of proof, both checked: a test that runs a whole block of a document as it is printed, or a test (or the
CI script) whose own text has the command, word for word. A new command in a document needs a line here; a line here
whose command nobody shows any more is refused too.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.repo.files import ROOT, documents

_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Blocks that a test runs as a script: document and first command → the test.
BLOCKS: Mapping[tuple[str, str], str] = {
    ("README.md", "make up"): "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    ("examples/README.md", "source .dev/env"): (
        "tests/repo/test_quickstart.py::test_the_examples_page_works_as_it_is_printed"
    ),
    **{
        ("docs/install.md", first): "tests/e2e/test_install.py::test_the_installation_works_as_it_is_printed"
        for first in (
            "kubectl apply --server-side -k incident-operator/crds",
            "kubectl apply --server-side -k incident-operator/manifests/admission",
            "kubectl apply --server-side -f production/grant.yaml",
            "kubectl -n incident-system get lease incident-operator",
        )
    },
}

#: Other commands: command → the test that has it in its text.
COMMANDS: Mapping[str, str] = {
    "make": "tests/repo/test_makefile.py::test_make_alone_prints_help_and_nothing_else",
    "make setup": "tests/repo/test_quickstart.py::test_setup_of_a_checkout_that_is_set_up_is_quick",
    "make demo": "tests/repo/test_quickstart.py::test_the_demo_ends_with_a_resolved_incident",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "kubectl get incidentruns": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl incident watch inc-2023-1247": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl incident plan inc-2023-1247": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl describe incidentrun inc-2023-1247": (
        "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed"
    ),
    "kubectl wait --for=condition=Finished incidentrun/inc-2023-1247 --timeout=30m": (
        "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed"
    ),
    **dict.fromkeys(
        (
            "kubectl get incidents",
            "kubectl incident who inc-2023-1247",
            "kubectl incident timeline inc-2023-1247",
        ),
        "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    ),
    "kubectl get postincidentreviews": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl incident review inc-2023-1247": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl incident review inc-2023-1247 --patch": (
        "tests/cli/test_runbook_patch.py::test_the_json_patch_is_of_the_stored_runbook"
    ),
    "kubectl incident message inc-2023-1247": "tests/repo/test_quickstart.py::test_the_readme_works_as_it_is_printed",
    "kubectl auth can-i approve-low remediationplans": (
        "tests/e2e/test_attacks.py::test_the_verb_that_one_has_is_enough"
    ),
    "kubectl apply -k manifests/admission": "tests/e2e/test_admission_proof.py::installed",
    "kubectl apply -k manifests/admission/stamping": "tests/e2e/test_admission_proof.py::installed",
    "kubectl incident lint manifests/runbooks/lambda-failures.yaml examples/incident-run.yaml": (
        "tests/cli/test_lint.py::test_what_is_shipped_is_well"
    ),
    "kubectl incident suggest users cannot log in 403 from S3": (
        "tests/cli/test_suggest.py::test_a_runbook_is_suggested_for_what_people_see"
    ),
    "kubectl incident explain iam.restore-role-access": (
        "tests/cli/test_explain.py::test_an_action_is_explained_from_its_class"
    ),
    "kubectl incident iam-policy manifests/runbooks/lambda-failures.yaml --grant dev/shop/grant.yaml "
    "--role remediation": "tests/cli/test_iam_policy.py::test_the_role_of_changes_may_call_what_the_fixes_call",
    "kubectl incident iam-policy manifests/runbooks/lambda-failures.yaml --grant dev/shop/grant.yaml --role read": (
        "tests/cli/test_iam_policy.py::test_the_reading_role_may_read_what_the_runbook_reads_and_no_more"
    ),
    "kubectl incident halt --all --reason INC-2023-1247": (
        "tests/cli/test_halt.py::test_a_halt_suspends_all_and_unhalt_lets_them_go"
    ),
    "kubectl incident report --month 2026-11": "tests/cli/test_report.py::test_a_month_is_printed",
    "kubectl incident report --quarter 2026Q4": (
        "tests/cli/test_report.py::test_the_quarter_is_printed_as_it_was_computed"
    ),
    "kubectl incident report --month 2026-12 -o json": (
        "tests/cli/test_report.py::test_json_has_every_figure_and_null_for_what_is_not_known"
    ),
    "kubectl incident who inc-2024-0001": "tests/cli/test_who.py::test_the_page_of_an_incident_on_a_friday_night",
    "kubectl incident runbooks": "tests/cli/test_runbooks.py::test_the_table_says_what_is_known_and_what_is_not",
    "kubectl incident runbooks lambda-failures": (
        "tests/cli/test_runbooks.py::test_one_runbook_is_shown_with_its_report"
    ),
    "kubectl -n incident-system scale deployment/incident-operator --replicas=0": (
        "tests/repo/test_documented_commands.py::test_the_deployment_to_scale_down_is_the_shipped_one"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced `sh` block: where it stands, and its commands without comments."""

    document: str
    script: str
    commands: tuple[str, ...]


def blocks() -> list[Block]:
    """Return every fenced `sh` block of every document."""
    return [
        Block(document=str(path.relative_to(ROOT)), script=script, commands=_commands(script))
        for path in documents()
        for script in _FENCE.findall(path.read_text())
    ]


def _commands(script: str) -> tuple[str, ...]:
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in script.replace("\\\n", " ").splitlines())
    return tuple(re.sub(r"\s+", " ", line) for line in lines if line)


def proof_source(node: str) -> str | None:
    """Return the source of a test, or a script's text; None where there is none of that name."""
    file, _, name = node.partition("::")
    path = ROOT / file
    if not path.is_file():
        return None
    text = path.read_text()
    if not name:
        return text
    for function in ast.parse(text).body:
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.name == name:
            return ast.get_source_segment(text, function)
    return None
