"""The example of CONTRIBUTING: run as it is printed."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest
import yaml

from incident_operator.actions import base
from incident_operator.actions.catalogue import catalogue
from incident_operator.core.catalogue import ActionInfo
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.runbook import validate
from tests.builders import a_runbook
from tests.repo.files import ROOT

_TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ARN = "arn:aws:lambda:us-east-1:123456789012:function:mailer:LIVE"


def _fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL)


class OneAlias:
    """A reader whose world is one alias."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._weights = weights

    def aws(self, service: str, operation: str, arguments: Any = None, *, region: str | None = None) -> Any:
        """Answer the one read."""
        assert (service, operation) == ("lambda", "get_alias")
        return {
            "AliasArn": ARN,
            "FunctionVersion": "7",
            "RoutingConfig": {"AdditionalVersionWeights": self._weights},
        }


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the example's module, registered in a copy of the catalogue."""
    monkeypatch.setattr(base, "_REGISTRY", dict(catalogue()))
    module = ModuleType("incident_operator.actions.canary")
    module.__dict__["__package__"] = "incident_operator.actions"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile("\n\n".join(_fenced("python")), "CONTRIBUTING.md", "exec"), module.__dict__)  # noqa: S102
    return module


def test_the_check_finds_what_it_says(example: ModuleType) -> None:
    """A split alias is found, a whole one passes."""
    check, inputs = example.Canary(), example.CanaryInputs(function_name="mailer", alias="LIVE")
    split = check.observe(inputs, OneAlias({"8": 0.1}))
    assert [(f.reason, f.message) for f in check.findings(inputs, split)] == [
        ("TrafficIsSplit", "LIVE: 10% on version 8")
    ]
    assert check.findings(inputs, check.observe(inputs, OneAlias({}))) == []


def test_the_fix_plans_judges_and_undoes(example: ModuleType) -> None:
    """The plan is what the facts ask for; after it they say that it helped; the undo brings the split back."""
    fix, inputs = example.EndCanary(), example.CanaryInputs(function_name="mailer", alias="LIVE")
    before, after = fix.observe(inputs, OneAlias({"8": 0.1})), fix.observe(inputs, OneAlias({}))
    draft = fix.plan(inputs, before)
    assert isinstance(draft, PlanDraft)
    assert isinstance(fix.plan(inputs, after), NotApplicable)
    (call,) = draft.calls
    assert (fix.applied(call, inputs, before), fix.applied(call, inputs, after)) == (False, True)
    assert (fix.judge(inputs, before, before).outcome, fix.judge(inputs, before, after).outcome) == (None, "Helped")
    assert draft.undo is not None
    assert draft.undo.calls[0].arguments["RoutingConfig"] == {"AdditionalVersionWeights": {"8": 0.1}}


def test_the_runbooks_lines_are_valid(example: ModuleType) -> None:
    """With nothing but a step's head around them."""
    (lines,) = _fenced("yaml")
    step = {"name": "canary", "title": "Canary", "expectedBy": "5m", **yaml.safe_load(lines)}
    parameters = [{"name": name, "type": "string", "required": True} for name in ("functionName", "alias")]
    spec = a_runbook(parameters=parameters, steps=[step], recovery={"checks": ["canary"]})
    known = {
        action.name: ActionInfo(
            name=action.name,
            title=action.title,
            kind=action.kind,
            inputs_schema=action.inputs_model.model_json_schema(by_alias=True),
            reasons=frozenset(action.reasons),
        )
        for action in base.registry().values()
    }
    assert validate(spec, known) == ()
