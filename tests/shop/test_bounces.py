"""Mails of the birthday service that bounce, as a runbook's generic checks see them."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import boto3
import pytest

from dev.processes import wait_until
from dev.shop import policies
from dev.shop.grant import grant
from dev.shop.shop import Shop
from incident_operator.actions.aws import Query, QueryInputs
from incident_operator.actions.cloudwatch import Metric, MetricInputs
from incident_operator.actions.ports import ReadError
from incident_operator.adapters.aws import Gateway, GrantReader
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.evaluator import Evaluator
from incident_operator.api.grant import ActionGrant

SENT = QueryInputs(service="ses", operation="get_send_statistics")
BOUNCES = MetricInputs(
    namespace="AWS/SES", metric_name="Bounce", statistic="Sum", window=timedelta(minutes=15), threshold=0
)
RULE = "output.answer.size() > 0 && output.answer[0].Bounces > 0"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Callable[[Shop], GrantReader]:
    """Return a maker of readers with the operator's own key, under its reading role, each with nothing read yet."""

    def make(shop: Shop) -> GrantReader:
        key, clock = shop.keys["operator"], Clock()
        monkeypatch.setenv("AWS_ENDPOINT_URL", shop.endpoint)
        session = boto3.session.Session(key.access_key_id, key.secret_access_key)
        gateway = Gateway(now=clock.now, scaled=lambda wait: wait, boto_session=session)
        return gateway.reader(ActionGrant.model_validate(grant(shop.account)), since=clock.now(), memo=None)

    return make


def refuse_mails(shop: Shop, domain: str) -> None:
    """Make the mail servers of a domain refuse what the shop sends."""
    body = json.dumps({"account": shop.account, "domain": domain, "becomes": "Bounce"}).encode()
    request = urllib.request.Request(f"{shop.endpoint}/_sim/mailboxes", data=body, method="POST")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 loopback


def judged(output: Any) -> bool:
    """Return what the rule of a runbook says of an answer."""

    async def ask() -> Any:
        evaluator = Evaluator()
        try:
            variables = {"output": output.model_dump(mode="json", by_alias=True), "inputs": {}, "parameters": {}}
            return (await evaluator.expressions([RULE], "finding", variables, owner="mails"))[0].value
        finally:
            await evaluator.close()

    found = asyncio.run(ask())
    assert isinstance(found, bool)
    return found


def test_a_runbook_sees_that_mails_bounce(a_shop: Callable[..., Shop], reader: Callable[[Shop], GrantReader]) -> None:
    """By SES's own counts through `aws.query`, and by the metric; the function that sent them knows of no error."""
    shop, check = a_shop(), Query()

    def sent() -> list[dict[str, Any]]:
        return list(check.observe(SENT, reader(shop)).answer)

    assert sent() == []
    assert not judged(check.judged(check.observe(SENT, reader(shop))))
    refuse_mails(shop, "customers.example")
    answer = shop.client("lambda", "storefront").invoke(FunctionName=shop.function, Payload=b'{"userId": "u-1"}')
    assert "FunctionError" not in answer
    assert wait_until(lambda: sum(p["Bounces"] for p in sent()) == 1, seconds=60)
    facts = check.observe(SENT, reader(shop))
    assert set(facts.answer[0]) == {"Timestamp", "DeliveryAttempts", "Bounces", "Complaints", "Rejects"}
    assert check.findings(SENT, facts) == []
    assert judged(check.judged(facts))

    def measured() -> list[str]:
        found = Metric().findings(BOUNCES, Metric().observe(BOUNCES, reader(shop)))
        return [f.reason for f in found] if isinstance(found, list) else []

    assert wait_until(lambda: measured() == ["ThresholdBreached"], seconds=60)


def test_who_may_not_count_does_not_see_that_all_is_well(
    a_shop: Callable[..., Shop], reader: Callable[[Shop], GrantReader]
) -> None:
    """A refused read is an error, never an account without bounces."""
    shop = a_shop()
    refused = policies.document({"Effect": "Deny", "Action": "ses:GetSendStatistics", "Resource": "*"})
    shop.client("iam").put_role_policy(
        RoleName="IncidentOperatorRead", PolicyName="refused", PolicyDocument=policies.text(refused)
    )
    with pytest.raises(ReadError) as error:
        Query().observe(SENT, reader(shop))
    assert error.value.reason == "AccessDenied"
