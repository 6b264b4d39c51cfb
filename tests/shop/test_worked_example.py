"""The walkthrough of CONTRIBUTING, followed word by word: a check and a fix for an SQS dead-letter queue."""

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import boto3
import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator

from dev.shop.grant import grant
from dev.shop.shop import Shop
from incident_operator.actions import base
from incident_operator.actions import reads as listed
from incident_operator.actions.catalogue import catalogue
from incident_operator.adapters.aws import Gateway
from incident_operator.api.grant import ActionGrant
from incident_operator.core.catalogue import ActionInfo
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.runbook import validate
from tests.actions.reader import DictReader
from tests.builders import NOW, a_runbook
from tests.repo.files import ROOT

_TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ARN = "arn:aws:sqs:us-east-1:123456789012:orders-dead"
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/orders-dead"


def _fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the walkthrough's file as a module, in a copy of the catalogue and of the list of reads."""
    monkeypatch.setattr(base, "_REGISTRY", dict(catalogue()))
    module = ModuleType("incident_operator.actions.sqs")
    module.__dict__["__package__"] = "incident_operator.actions"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = dict(listed.READS)
    exec(compile("\n\n".join(_fenced("python")), "CONTRIBUTING.md", "exec"), module.__dict__)  # noqa: S102
    yield module
    for name in set(listed.READS) - set(before):
        del listed._LISTED[name]


def _world(waiting: int, *moves: dict[str, Any]) -> DictReader:
    return DictReader({"sqs.get_queue_attributes": waiting, "sqs.list_message_move_tasks": list(moves)})


def _moved(status: str, ago: timedelta) -> dict[str, Any]:
    return {"Status": status, "StartedTimestamp": int((NOW - ago).timestamp() * 1000)}


def test_the_check_counts_what_lies_in_a_real_queue(
    sqs: ModuleType, a_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the wire, with the operator's own key, under the reading role that the list of reads makes."""
    shop = a_shop()
    queue = shop.client("sqs").create_queue(QueueName="orders-dead")["QueueUrl"]
    key = shop.keys["operator"]
    session = boto3.session.Session(key.access_key_id, key.secret_access_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", shop.endpoint)
    gateway = Gateway(now=lambda: datetime.now(UTC), scaled=lambda wait: wait, boto_session=session)  # noqa: TID251
    granted = ActionGrant.model_validate(grant(shop.account))

    def found() -> list[str]:
        check, inputs = sqs.DeadLetters(), sqs.DeadLettersInputs(queue_url=queue)
        reader = gateway.reader(granted, since=NOW, memo=None)
        return [f.reason for f in check.findings(inputs, check.observe(inputs, reader))]

    assert found() == []
    shop.client("sqs").send_message(QueueUrl=queue, MessageBody="an order that nobody can process")
    assert found() == ["DeadLettersWaiting"]


def test_the_fix_plans_one_call_that_aws_takes(sqs: ModuleType) -> None:
    """Not twice, not while one is under way, and not for an empty queue."""
    fix, inputs = sqs.Redrive(), sqs.RedriveInputs(queue_url=URL, queue_arn=ARN)
    draft = fix.plan(inputs, fix.observe(inputs, _world(3)))
    assert isinstance(draft, PlanDraft)
    (call,) = draft.calls
    shape = get_session().get_service_model("sqs").operation_model("StartMessageMoveTask").input_shape
    assert not ParamValidator().validate(call.arguments, shape).has_errors()
    for world, reason in (
        (_world(0), "NothingToRedrive"),
        (_world(3, _moved("RUNNING", timedelta())), "RedriveRunning"),
    ):
        refused = fix.plan(inputs, fix.observe(inputs, world))
        assert isinstance(refused, NotApplicable)
        assert refused.reason == reason


def test_the_fix_is_judged_by_the_queue(sqs: ModuleType) -> None:
    """An empty queue helped; what came back did not; an older move proves nothing."""
    fix, inputs = sqs.Redrive(), sqs.RedriveInputs(queue_url=URL, queue_arn=ARN)
    before = fix.observe(inputs, _world(3, _moved("COMPLETED", timedelta(days=1))))
    (call,) = fix.plan(inputs, before).calls

    def after(waiting: int, status: str) -> tuple[bool | None, str | None, bool]:
        facts = fix.observe(inputs, _world(waiting, _moved(status, timedelta(minutes=1))))
        judged = fix.judge(inputs, before, facts)
        return fix.applied(call, inputs, facts), judged.outcome, judged.measured

    assert fix.applied(call, inputs, before) is False
    assert after(2, "RUNNING") == (True, None, False)
    assert after(0, "COMPLETED") == (True, "Helped", True)
    assert after(3, "COMPLETED") == (True, None, True)


def test_the_runbooks_lines_are_valid(sqs: ModuleType) -> None:
    """With nothing but a step's head around them."""
    (lines,) = _fenced("yaml")
    step = {"name": "queue", "title": "Queue", "expectedBy": "5m", **yaml.safe_load(lines)}
    parameters = [{"name": name, "type": "string", "required": True} for name in ("queueUrl", "queueArn")]
    spec = a_runbook(parameters=parameters, steps=[step], recovery={"checks": ["deadLetters"]})
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


def test_a_read_is_listed_once(sqs: ModuleType) -> None:
    """Two projections of one answer would differ."""
    with pytest.raises(ValueError, match=r"sqs.get_queue_attributes is listed already"):
        listed.list_reads({("sqs", "get_queue_attributes"): listed.READS["sqs", "get_queue_attributes"]})
