"""A channel's Secret, as docs/channels.md shows it, is read by the operator's own account, and its message arrives."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl
from dev.loopback import ROOT
from dev.receivers import Receivers
from dev.stack import Stack
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.notify import Delivery, Messenger, Reason, credential_of
from incident_operator.api.escalation import Channel
from tests.core.test_notice import a_notice

_CHANNELS = (ROOT / "docs" / "channels.md").read_text()
_CONNECTIONS = (ROOT / "docs" / "connections.md").read_text()


def _blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


def _secret(namespace: str, **data: str) -> dict[str, Any]:
    """Return the documented Secret of Slack in a namespace, with values of this test."""
    secret: dict[str, Any] = yaml.safe_load(next(b for b in _blocks(_CHANNELS) if "name: slack," in b and "kind:" in b))
    secret["metadata"]["namespace"] = namespace
    secret["stringData"] |= data
    return secret


def _role(namespace: str) -> str:
    """Return the documented Role with its binding, for the Secret of Slack."""
    role = next(b for b in _blocks(_CONNECTIONS) if "kind: RoleBinding" in b)
    return role.replace("namespace: shop}", f"namespace: {namespace}}}").replace("[shopsmart-db]", "[slack]")


async def test_a_documented_secret_carries_a_message(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Role the answer says which is missing; a Secret of another type is not opened."""
    admin, namespace = Kubectl(stack.kubeconfig()), f"channels-{uuid.uuid4().hex[:8]}"
    admin.run("create", "namespace", namespace)
    channel = Channel.model_validate(next(c for c in yaml.safe_load(_blocks(_CHANNELS)[0])["channels"]))
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    kube = await Kube.connect(Clock())
    messenger = Messenger(Clock(), kube.endpoint, loopback=True, timeout=timedelta(seconds=5))
    try:
        with Receivers() as receivers:
            wanted = receivers.slack.credential()
            denied = await credential_of(kube, namespace, channel)
            assert isinstance(denied, Delivery)
            assert denied.reason == Reason.ACCESS_DENIED
            assert "resourceNames [slack]" in denied.message
            admin.run("apply", "-f", "-", stdin=_role(namespace))
            found = denied
            while isinstance(found, Delivery) and found.reason == Reason.ACCESS_DENIED:
                found = await credential_of(kube, namespace, channel)
            assert isinstance(found, Delivery)
            assert found.reason == Reason.CREDENTIAL_MISSING
            admin.run("apply", "-f", "-", stdin=yaml.safe_dump({**_secret(namespace), "type": "Opaque"}))
            opaque = await credential_of(kube, namespace, channel)
            assert isinstance(opaque, Delivery)
            assert opaque.reason == Reason.CREDENTIAL_INVALID
            admin.run("-n", namespace, "delete", "secret", "slack")
            admin.run("apply", "-f", "-", stdin=yaml.safe_dump(_secret(namespace, **wanted)))
            credential = await credential_of(kube, namespace, channel)
            assert credential == wanted
            delivery = await messenger.deliver(a_notice(), channel, wanted)
            assert delivery.reason == Reason.SENT
            assert len(receivers.slack.messages) == 1
    finally:
        await messenger.close()
        await kube.close()
