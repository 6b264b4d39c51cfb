"""A Secret is read by the operator's own account only where the team's Role lets it: the documented one."""

import re
import uuid
from datetime import timedelta

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl
from dev.loopback import ROOT
from dev.stack import Stack
from incident_operator.actions.ports import ReadError
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import Connections, Slots, Target
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.pool import Pool
from tests.builders import a_run

_SECONDS = timedelta(seconds=20)
_PAGE = (ROOT / "docs" / "connections.md").read_text()


def _manifests(namespace: str) -> tuple[str, str]:
    """Return the documented Secret and the documented Role with its binding, in this namespace."""
    page = _PAGE.replace("namespace: shop}", f"namespace: {namespace}}}")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    secret = yaml.safe_load(next(b for b in blocks if "kind: Secret" in b))
    del secret["stringData"]["ca.crt"]
    return yaml.safe_dump(secret), next(b for b in blocks if "kind: RoleBinding" in b)


async def test_the_documented_role_lets_the_operator_read_the_documented_secret(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the check says which Role is missing; with it the target is what the Secret says."""
    admin, namespace = Kubectl(stack.kubeconfig()), f"connections-{uuid.uuid4().hex[:8]}"
    admin.run("create", "namespace", namespace)
    secret, role = _manifests(namespace)
    admin.run("apply", "-f", "-", stdin=secret)
    monkeypatch.setenv("KUBECONFIG", str(stack.operator_kubeconfig))
    kube, pool = await Kube.connect(Clock()), Pool(2)
    run = a_run(connections={"database": {"secretRef": {"name": "shopsmart-db"}}})
    run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"namespace": namespace})})

    async def target() -> Target | ReadError:
        try:
            return await pool.run(Connections.of(run, kube, Slots()).target, "database", "PostgreSQL", timeout=_SECONDS)
        except ReadError as error:
            return error

    try:
        denied = await target()
        assert isinstance(denied, ReadError)
        assert denied.reason == "AccessDenied"
        assert "resourceNames [shopsmart-db]" in denied.message
        admin.run("apply", "-f", "-", stdin=role)
        found = await target()
        while isinstance(found, ReadError) and found.reason == "AccessDenied":
            found = await target()
        assert isinstance(found, Target)
        assert (found.host, found.user, found.password) == ("db.shop.internal", "incident_reader", "PASSWORD")
        assert kube.endpoint[1] == int((stack.server or "").rpartition(":")[2])
    finally:
        pool.close()
        await kube.close()
