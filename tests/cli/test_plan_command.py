"""`kubectl incident plan` as a process, and as kubectl's plugin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import PLAN, plan, run


def test_plans_of_a_run_are_printed_whole(api: FakeApi, command: Command) -> None:
    """To a pipe: whole lines, no control characters."""
    api.put(run("diagnosed"), plan())
    out, err = command("plan", "inc-2024-0001").communicate(timeout=30)
    assert err == ""
    assert out.startswith("○ set BirthdayServiceAccess back to version v1  Proposed\n" + PLAN)
    assert not any(c < " " and c != "\n" for c in out)


def test_json_and_yaml_are_the_stored_objects(api: FakeApi, command: Command) -> None:
    """One by its name is an object, else a List, as with kubectl."""
    api.put(run("diagnosed"), plan())
    listed = json.loads(command("plan", "inc-2024-0001", "-o", "json").communicate(timeout=30)[0])
    single = yaml.safe_load(command("plan", "inc-2024-0001", PLAN, "-o", "yaml").communicate(timeout=30)[0])
    assert listed["kind"] == "List"
    assert listed["items"] == [single]
    assert (single["kind"], single["spec"]) == ("RemediationPlan", plan().spec.wire())


def test_a_run_without_plans_says_why(api: FakeApi, command: Command) -> None:
    """Each fix with the reason it is not planned."""
    steps = [step.wire() for step in run("diagnosed").status.steps]
    steps[1]["fixes"][0] |= {"state": "NotApplicable", "reason": "ExplicitDeny", "message": "a Deny stands"}
    api.put(run("diagnosed", steps=steps))
    out, _ = command("plan", "inc-2024-0001").communicate(timeout=30)
    assert out == (
        "No plan: no fix of the runbook applies to what was found.\n"
        "  restoreAccess NotApplicable: ExplicitDeny: a Deny stands\n"
    )


def test_a_plan_that_does_not_exist_names_what_does(api: FakeApi, command: Command) -> None:
    """By plan or by fix."""
    api.put(run("diagnosed"), plan())
    process = command("plan", "inc-2024-0001", "restoreAcces")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (
        1,
        f"error: run inc-2024-0001 has no plan or fix 'restoreAcces'\n  there are: {PLAN}\n",
    )


def test_kubectl_finds_the_plugin(api: FakeApi, tmp_path: Path) -> None:
    """`kubectl incident plan` is this command; options before and after its name are read."""
    api.put(run("diagnosed"), plan())
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "KUBECONFIG": str(api.kubeconfig(tmp_path))}
    done = subprocess.run(
        [str(scripts / "kubectl"), "incident", "-n", "elsewhere", "plan", "-n", "shopsmart", "inc-2024-0001"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert PLAN in done.stdout


def test_a_server_that_fills_its_caches_is_asked_again(api: FakeApi, command: Command) -> None:
    """As a real one is for some seconds after its start: nobody types an approval twice for that."""
    api.put(run("diagnosed"), plan())
    api.busy = 2
    process = command("plan", "inc-2024-0001")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, PLAN in out, err) == (0, True, "")
