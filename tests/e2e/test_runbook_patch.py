"""What a runbook learns, applied to the stored runbook with kubectl on a real API server: once, and never twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import KubectlError
from dev.loopback import ROOT
from incident_operator.api.meta import format_instant

from .test_admission_proof import AheadClock
from .test_review import said
from .test_review_clock import NAME, account, drafted
from .world import World

TICKET = "INC-2024-0001"


def reviewed(world: World, kind: str) -> None:
    """Let there be the finished review of a run of a runbook that has the world's name."""

    async def make() -> None:
        clock = AheadClock()
        now = clock.now()
        async with account(world, clock) as kube:
            await drafted(world, kube, now, complete=True, title="Mails fail", customerImpact="15% of requests failed")
            at = format_instant(now)
            run = {"name": "inc-2024-0001", "uid": "u", "startedAt": at, "runbook": world.name, "runbookKind": kind}
            end = {"phase": "Resolved", "outcome": "Runbook", "summary": "given back", "by": "Runbook", "at": at}
            raw = await kube.get("PostIncidentReview", world.name, NAME)
            await kube.write_status(raw, {**raw["status"], "runs": [run], "duration": "23m", "resolution": end})

    asyncio.run(make())


@pytest.mark.parametrize("kind", ["Runbook", "ClusterRunbook"])
def test_kubectl_takes_the_patch_once(world: World, tmp_path: Path, kind: str) -> None:
    """The runbook knows the ticket, counts it, and is still valid; the same patch again is refused."""
    (shipped,) = yaml.safe_load_all((ROOT / "manifests/runbooks/lambda-failures.yaml").read_text())
    metadata = {"name": world.name, **({"namespace": world.name} if kind == "Runbook" else {})}
    world.admin.apply([{**shipped, "kind": kind, "metadata": metadata}])
    try:
        reviewed(world, kind)
        printed = said(world, "review", TICKET, "--patch")
        assert printed.returncode == 0, printed.stderr
        file = tmp_path / "patch.json"
        file.write_text(printed.stdout)
        told = printed.stderr.strip().partition(": kubectl ")[2].replace("FILE", str(file)).split()
        assert told[:3] == ["patch", kind.lower(), world.name]
        world.admin.run(*told)
        spec = learned_spec(world, kind)
        assert spec["knowledge"]["incidents"] == 48
        assert spec["history"][-1] == {
            **{"ticket": TICKET, "title": "Mails fail", "resolution": "given back"},
            **{"impact": "15% of requests failed", "resolutionTime": "23m"},
        }
        assert spec["symptoms"][-1] == "Mails fail"
        with pytest.raises(KubectlError, match="The request is invalid"):
            world.admin.run(*told)
        assert learned_spec(world, kind) == spec
        again = said(world, "review", TICKET, "--patch")
        assert (again.returncode, again.stdout) == (2, "")
        assert f"{TICKET} is in the runbook's history already" in again.stderr
        add = [{"op": "add", "path": "/spec/history/-", "value": {"ticket": TICKET}}]
        with pytest.raises(KubectlError, match="Duplicate value"):
            world.admin.run("patch", kind, *told[2:-2], "-p", json.dumps(add))
    finally:
        world.admin.run("delete", kind, world.name, *(["-n", world.name] if kind == "Runbook" else []))


def learned_spec(world: World, kind: str) -> dict[str, Any]:
    """Return the stored runbook's spec."""
    where = ["-n", world.name] if kind == "Runbook" else []
    return dict(world.admin.json("get", kind, world.name, *where)["spec"])
