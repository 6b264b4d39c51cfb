"""The stack with a real control plane: up, used by its people, up again, and down without a trace."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dev.controlplane.cluster import Cluster, answers
from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.processes import StartError, recorded, wait_until
from dev.stack import Stack, env_text

RUN_NAME = "nothing-of-the-kind"
RUN = {
    "apiVersion": "ops.shopsmart.com/v1alpha1",
    "kind": "IncidentRun",
    "metadata": {"name": RUN_NAME, "namespace": "default"},
    "spec": {"incident": {"title": "Orders fail", "severity": "P1"}, "runbookRef": {"name": "no-such-runbook"}},
}
PARTS = ("control plane", "aws", "traffic", "operator")


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Bring up everything, for all tests of this module."""
    made = Stack(tmp_path_factory.mktemp("stack"), cluster="own", say=quiet)
    try:
        yield made.up()
    finally:
        made.down()


def mentioning(text: str) -> list[int]:
    """Return the live processes whose command line or environment holds a text, but this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            whole = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if text.encode() in whole:
            found.append(int(entry.name))
    return found


def test_people_may_what_their_groups_may(stack: Stack) -> None:
    """The admin may all, a responder starts runs and grants nothing, mallory sees nothing."""
    namespaces = Kubectl(stack.kubeconfig("admin")).json("get", "namespaces")["items"]
    assert {"default", "incident-system"} <= {namespace["metadata"]["name"] for namespace in namespaces}
    with pytest.raises(KubectlError, match=r'User "mallory" cannot list resource "namespaces"'):
        Kubectl(stack.kubeconfig("mallory")).run("get", "namespaces")
    group = "ops.shopsmart.com"
    for name in ("alice", "bob"):
        person = Kubectl(stack.kubeconfig(name))
        assert person.may("create", "incidentruns", group)
        assert not person.may("create", "actiongrants", group)
        assert not person.may("create", "remediationplans", group)
        assert person.may("approve-destructive", "remediationplans", group)
        assert not person.may("break-glass", "remediationplans", group)
        assert not person.may("get", "secrets")


def test_the_operators_account_has_only_what_it_uses(stack: Stack) -> None:
    """It writes status, creates plans and the runs of policies; it can't delete, edit specs, or read Secrets."""
    operator, group = Kubectl(stack.operator_kubeconfig), "ops.shopsmart.com"
    who = operator.json("auth", "whoami")["status"]["userInfo"]["username"]
    assert who == "system:serviceaccount:incident-system:incident-operator"
    assert operator.may("watch", "incidentruns", group)
    assert operator.may("create", "remediationplans", group)
    assert operator.may("create", "incidentruns", group)
    for verb, resource in (
        ("delete", "remediationplans"),
        ("update", "incidentruns"),
        ("patch", "remediationpolicies"),
    ):
        assert not operator.may(verb, resource, group), (verb, resource)
    assert not operator.may("get", "secrets")
    assert not operator.may("create", "clusterrolebindings", "rbac.authorization.k8s.io")


def test_credentials_are_only_their_owners(stack: Stack) -> None:
    """Nobody else on the machine can read a kubeconfig, a key or a token."""
    files = [*stack.state_dir.glob("kubeconfig-*"), *stack.state_dir.glob("pki/*"), stack.env_file]
    assert len(files) > 8
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_operator_answers_a_responders_run(stack: Stack) -> None:
    """A run applied by a person gets a status and an Event from the operator's own account."""
    alice = Kubectl(stack.kubeconfig("alice"))
    alice.run("apply", "-f", "-", stdin=yaml.safe_dump(RUN))
    waiting = "jsonpath={.status.now.waitingFor}=RunbookNotFound"
    alice.run("wait", "incidentrun", RUN_NAME, "-n", "default", f"--for={waiting}", "--timeout=20s")
    assert wait_until(lambda: "RunbookNotFound" in alice.run("get", "events", "-n", "default"), seconds=10)


def test_an_owned_object_goes_with_its_owner(stack: Stack) -> None:
    """Garbage collection is the real one."""
    admin = Kubectl(stack.kubeconfig())
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "default"}}
    made = admin.json("create", "-f", "-", stdin=yaml.safe_dump(owner))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": made["metadata"]["uid"]}
    owned = {**owner, "metadata": {"name": "owned", "namespace": "default", "ownerReferences": [reference]}}
    admin.run("create", "-f", "-", stdin=yaml.safe_dump(owned))
    admin.run("delete", "configmap", "owner", "-n", "default")
    admin.run("wait", "--for=delete", "configmap/owned", "-n", "default", "--timeout=30s")


def test_a_killed_operator_comes_back_and_the_log_says_why(stack: Stack) -> None:
    """The supervisor restarts it."""
    daemon = {part.name: part for part in recorded(stack.state_dir)}["operator"]
    supervisor = daemon.pid()
    (child,) = [pid for pid in mentioning(str(stack.operator_kubeconfig)) if parent(pid) == supervisor]
    os.kill(child, signal.SIGKILL)
    assert wait_until(lambda: "killed by SIGKILL" in daemon.log.read_text(), seconds=10)
    assert wait_until(lambda: answers(f"{stack.operator_url}/readyz"), seconds=30)
    assert daemon.pid() == supervisor


def parent(pid: int) -> int:
    """Return the parent of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def test_up_again_starts_nothing(stack: Stack) -> None:
    """What runs is found, from the files alone."""
    before = {part.name: part.pid() for part in recorded(stack.state_dir)}
    Stack(stack.state_dir, cluster="own", say=quiet).up()
    assert {part.name: part.pid() for part in recorded(stack.state_dir)} == before
    assert {name: works for name, works, _ in stack.status()} == dict.fromkeys(PARTS, True)


def test_the_env_file_leads_to_all_of_it(stack: Stack) -> None:
    """A shell that sources it reaches the cluster, the shop's namespace first, AWS, and the operator's metrics."""
    script = f"""
set -euo pipefail
source {stack.env_file}
kubectl get incidentruns -o name
kubectl config view --minify -o 'jsonpath={{.contexts[0].context.namespace}}'; echo
python -c "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
python -c "import os, urllib.request as u; print(u.urlopen(os.environ['METRICS_URL']).read().decode())"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, *metrics = done.stdout.splitlines()
    assert (first, second) == ("shopsmart", stack.shop()["account"])
    assert any(line.startswith("# HELP incident_operator_reconcile_seconds") for line in metrics)


def test_a_dead_simulator_is_replaced_and_seeded_with_all_that_talks_to_it(stack: Stack) -> None:
    """Its memory is gone with it: `up` makes the shop again and restarts who held sessions."""
    parts = {part.name: part for part in recorded(stack.state_dir)}
    before = {name: part.pid() for name, part in parts.items()}
    os.kill(before["aws"] or 0, signal.SIGKILL)
    assert wait_until(lambda: parts["aws"].pid() is None, seconds=5)
    assert ("aws", False) in [(name, works) for name, works, _ in stack.status()]
    stack.up()
    after = {part.name: part.pid() for part in recorded(stack.state_dir)}
    assert {name for name in before if before[name] != after[name]} == {"aws", "traffic", "operator"}
    functions = subprocess.run(
        [sys.executable, "-c", "import boto3; print(len(boto3.client('lambda').list_functions()['Functions']))"],
        env={**os.environ, **stack.aws_env("admin")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert functions.stdout == "1\n"


def test_the_current_context_can_be_used_and_is_left_as_it_was(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CLUSTER=current nothing is started; people are impersonated; `down` takes only what is ours."""
    plain = Cluster(tmp_path / "plain", say=quiet)
    plain.up()
    try:
        monkeypatch.setenv("KUBECONFIG", str(plain.kubeconfig()))
        theirs = Kubectl(plain.kubeconfig())
        theirs.run("create", "namespace", "theirs")
        borrowed = Stack(tmp_path / "dev", shop=False, aws=False, operator=False, cluster="current", say=quiet).up()
        assert recorded(borrowed.state_dir) == []
        alice = Kubectl(borrowed.kubeconfig("alice"))
        assert alice.json("auth", "whoami")["status"]["userInfo"]["username"] == "alice"
        assert alice.may("create", "incidentruns", "ops.shopsmart.com")
        with pytest.raises(KubectlError, match=r"not this stack's: .*incident-system"):
            Stack(tmp_path / "other", shop=False, aws=False, operator=False, cluster="current", say=quiet).up()
        Stack(tmp_path / "dev").down()
        names = {item["metadata"]["name"] for item in theirs.json("get", "namespaces")["items"]}
        assert "theirs" in names
        assert "incident-system" not in names
        kinds = "clusterroles,validatingadmissionpolicies,validatingadmissionpolicybindings,mutatingadmissionpolicies"
        assert "incident-" not in theirs.run("get", kinds, "-o", "name")
        assert plain.running()
    finally:
        plain.down()


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last log lines of the part that failed are in the error, and what had started is ended."""
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\necho bind: no such luck >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "bin"))
    broken = Stack(tmp_path / "dev", shop=False, aws=False, operator=False, cluster="own", say=quiet)
    with pytest.raises(StartError, match=r"(?s)etcd ended.*bind: no such luck"):
        broken.up()
    assert recorded(broken.state_dir) == []
    assert mentioning(str(tmp_path / "dev")) == []


def test_the_env_file_is_a_shell_file_that_quotes() -> None:
    """A path with a blank stays one value."""
    text = env_text({"KUBECONFIG": "/home/a b/kubeconfig", "AWS_REGION": "us-east-1"})
    assert "export KUBECONFIG='/home/a b/kubeconfig'\n" in text
    assert text.splitlines()[1].startswith("export PATH=")


def test_down_leaves_no_process(stack: Stack) -> None:
    """Nothing that was started for this state directory is alive afterwards, and a second down has nothing to do."""
    assert len(mentioning(str(stack.state_dir))) >= 7
    ended = stack.down()
    assert set(ended) == set(PARTS)
    assert mentioning(str(stack.state_dir)) == []
    assert not list(stack.state_dir.glob("kubeconfig-*"))
    assert stack.down() == []
