"""A run that only observes sends no instance a command: by the simulator's journal, and it says so."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import boto3
import pytest

from dev.shop.network.grant import grant
from dev.shop.network.seed import seed
from dev.shop.shop import Shop
from incident_operator.actions.base import Unclear
from incident_operator.actions.ec2 import ConnectAlongPaths
from incident_operator.adapters.aws import Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import Slots
from incident_operator.api.grant import ActionGrant
from incident_operator.api.run import IncidentRun
from incident_operator.controllers.context import Context
from tests.builders import a_run

_OBSERVING: dict[str, dict[str, Any]] = {
    "it may propose fixes": {},
    "askUpTo: None": {"automation": {"applyUpTo": "None", "askUpTo": "None"}},
    "a drill": {"drill": True},
}


class _Placed:
    """A context of which only AWS is real: the simulator, over the wire."""

    def __init__(self, shop: Shop) -> None:
        key, self.clock, self.slots, self.kube = shop.keys["operator"], Clock(), Slots(), self
        session = boto3.session.Session(key.access_key_id, key.secret_access_key, region_name=shop.region)
        self.aws = Gateway(now=self.clock.now, scaled=lambda wait: wait, boto_session=session)
        self.endpoint = None


def _run(**spec: Any) -> IncidentRun:
    wire = a_run().wire()
    return IncidentRun.model_validate({**wire, "spec": {**wire["spec"], **spec}})


@pytest.mark.parametrize("spec", _OBSERVING.values(), ids=list(_OBSERVING))
async def test_who_only_observes_sends_no_command(
    spec: dict[str, Any],
    a_shop: Callable[..., Shop],
    journal: Callable[[Shop], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way between the tiers is not tried: Inconclusive, with why, and never a pass. Any other run has it tried."""
    shop, tiers = seed(a_shop())
    monkeypatch.setenv("AWS_ENDPOINT_URL", shop.endpoint)
    context = _Placed(shop)
    reader = Context.reader(
        cast("Context", context),
        ActionGrant.model_validate(grant(shop.account, "shopsmart", "shopsmart", tiers)),
        since=context.clock.now() - timedelta(minutes=5),
        memo=None,
        run=_run(**spec),
    )
    action = ConnectAlongPaths()
    inputs = action.inputs_model.model_validate(
        {"vpcId": tiers.vpc, "paths": [{"from": "web-servers", "to": "cache", "port": 6379}], "vantage": "instances"}
    )
    answer = action.findings(inputs, action.observe(inputs, reader))
    sent = [call for call in journal(shop) if call["operation"] == "SendCommand"]
    assert isinstance(answer, Unclear) == bool(spec), answer
    assert len(sent) == (0 if spec else 1)
    if isinstance(answer, Unclear):
        assert (answer.reason, answer.found) == ("NotProbed", ())
        assert "an observe-only run sends no command" in answer.message
        assert "askUpTo: Low" in answer.message
