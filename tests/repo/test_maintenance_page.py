"""docs/maintenance.md explains every condition, reason, part and field, and what is shipped is kept as it says."""

import re
from typing import get_args, get_type_hints

import yaml

from dev.controlplane.kubectl import kustomized
from dev.shop.examples import examples
from dev.shop.faults import FAULTS
from dev.shop.shop import Shop
from dev.stack import SHOP_NAMESPACE
from incident_operator.api.meta import format_duration
from incident_operator.api.runbook import ClusterRunbook, Maintenance, Runbook, UpdateReason, ValidationPart
from incident_operator.core.maintenance import VALIDATE_EVERY, Freshness
from incident_operator.core.runbook import bind_parameters
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs" / "maintenance.md").read_text()
_SOURCE = (ROOT / "operator" / "incident_operator" / "core" / "maintenance.py").read_text()
#: Conditions of a runbook.
_TYPES = ("Ready", "Validated", "Fresh")


def _rows(header: str) -> dict[str, list[str]]:
    after = _PAGE.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in after.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_condition_and_reason_is_explained() -> None:
    """And none that can't be seen."""
    assert tuple(_rows("condition | True means | False means | Unknown means")) == _TYPES
    fresh = set(get_args(get_type_hints(Freshness)["reason"]))
    verdicts = set(re.findall(r'Verdict\((?:True|False|None), "(\w+)"', _SOURCE))
    verdicts |= set(re.findall(r'ValidationPart\.\w+: "(\w+)"', _SOURCE)) | {"TrialInvalid"}
    assert '"TrialInvalid"' in _SOURCE
    said = {reason: set(cells[0].split(", ")) for reason, cells in _rows("reason | of | meaning").items()}
    assert {reason for reason, of in said.items() if "Fresh" in of} == fresh
    assert {reason for reason, of in said.items() if of & {"Ready", "Validated"}} == verdicts


def test_every_part_and_field_is_explained() -> None:
    """With the default that the code has."""
    assert list(_rows("part | what is looked at")) == [str(part) for part in ValidationPart]
    fields = _rows("field | default | what it does")
    known = {field.alias or name for name, field in Maintenance.model_fields.items()}
    assert set(fields) == known - {"reviewedAt"}
    assert "`reviewedAt`" in _PAGE
    assert fields["validateEvery"][0] == format_duration(VALIDATE_EVERY)
    assert all(f"({reason}" in _PAGE for reason in UpdateReason)


def test_its_examples_are_what_the_api_takes() -> None:
    """As they are printed."""
    examples = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        written = yaml.safe_load(example)["maintenance"]
        written.setdefault("owner", "platform-engineering")
        stored = Maintenance.model_validate(written).wire()
        assert written.keys() <= stored.keys()


def test_the_shipped_runbooks_are_reviewed_by_those_on_call() -> None:
    """The document: "Review quarterly with all on-call engineers", "Validate all commands and procedures monthly"."""
    policy = yaml.safe_load((ROOT / "manifests/base/escalation-policy.yaml").read_text())
    on_call = [contact["name"] for contact in policy["spec"]["contacts"] if contact["kind"] == "OnCall"]
    for file in sorted((ROOT / "manifests/runbooks").glob("*.yaml")):
        raw = yaml.safe_load(file.read_text())
        if raw["kind"] in (Runbook.__name__, ClusterRunbook.__name__):
            maintenance = raw["spec"]["maintenance"]
            assert maintenance["reviewers"] == on_call, file.name
            assert (maintenance["reviewEvery"], maintenance["validateEvery"]) == ("90d", "30d"), file.name


def test_the_shipped_runbooks_are_tried_on_what_make_up_seeds() -> None:
    """Only there: a trial on what is not there would fail every month. Elsewhere they say that they have none."""
    shipped, tried = (kustomized(ROOT / folder) for folder in ("manifests/runbooks", "manifests/dev/runbooks"))
    assert [one["metadata"]["name"] for one in tried] == [one["metadata"]["name"] for one in shipped]
    # What `make up` seeds is what `make break` breaks; departments with faults of their own are seeded by tests.
    known = examples()
    seeded = {known[fault.example].manifest["spec"]["runbookRef"]["name"] for fault in FAULTS.values()}
    with_trial = set()
    for bare, raw in zip(shipped, tried, strict=True):
        assert "trial" not in bare["spec"]["maintenance"]
        trial = raw["spec"]["maintenance"].pop("trial", None)
        assert raw == bare, "nothing but the trial is added"
        if trial is not None:
            with_trial.add(raw["metadata"]["name"])
            assert not bind_parameters(ClusterRunbook.model_validate(raw).spec, trial["parameters"])[1]
            assert trial["namespace"] == SHOP_NAMESPACE
            assert trial["parameters"] == {
                "functionName": Shop.function,
                "alias": Shop.alias,
                "alarmNames": [Shop.alarm],
            }
    assert with_trial == seeded == {"lambda-failures"}
    said = " ".join(_PAGE.split())
    assert all(f"where `{name}` is tried on its function" in said for name in with_trial)
