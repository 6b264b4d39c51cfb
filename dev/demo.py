"""`make demo`: bring the stack up, break something real, apply a run, watch it end, and look whether it is true.

Ends 0 only if the run is Resolved and a customer, who knows nothing of runs, is greeted again.
"""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.loopback import ROOT
from dev.processes import wait_until
from dev.receivers import Receivers, readable
from dev.shop.alarm import WINDOW, failing_share, wait_until_felt, wait_until_well
from dev.shop.examples import Example, examples
from dev.shop.faults import Fault, heal_all, named
from dev.shop.shop import Answer, Shop, ShopError, load
from dev.stack import FAILURES, SHOP_NAMESPACE, Stack

_WIDTH = 110
_WATCH_LIMIT = "5m"


class DemoError(RuntimeError):
    """The demo did not come to its end; the message says what to look at."""


def main_part(stack: Stack, fault: Fault, *, time_scale: float) -> None:
    """Break, apply, watch, tell. Errors: DemoError."""
    example = examples()[fault.example]
    shop = load(stack.state_dir)
    admin = Kubectl(stack.kubeconfig())
    _begin_anew(admin, shop, example.manifest["metadata"]["name"], time_scale=time_scale)
    with told_here(admin) as receivers:
        _incident(stack, fault, example, shop, receivers, time_scale=time_scale)


@contextlib.contextmanager
def told_here(admin: Kubectl) -> Iterator[Receivers]:
    """Let the shop's messages go to receivers of this process, as long as it lasts."""
    policy = yaml.safe_load((ROOT / "manifests/base/escalation-policy.yaml").read_text())
    policy["metadata"]["namespace"] = SHOP_NAMESPACE
    with Receivers() as receivers:
        channels, secrets = receivers.channels(), receivers.secrets(SHOP_NAMESPACE)
        policy["spec"]["channels"] = channels
        admin.apply([*secrets, *readable(SHOP_NAMESPACE, [s["metadata"]["name"] for s in secrets]), policy])
        try:
            yield receivers
        finally:
            admin.run("delete", "escalationpolicy", "-n", SHOP_NAMESPACE, policy["metadata"]["name"])


def _incident(
    stack: Stack, fault: Fault, example: Example, shop: Shop, receivers: Receivers, *, time_scale: float
) -> None:
    name, alice = example.manifest["metadata"]["name"], Kubectl(stack.kubeconfig("alice"))
    began = time.monotonic()
    told(f"breaking {shop.function}: {fault.title} (by {fault.actor})")
    fault.break_(shop)
    if not wait_until_felt(shop, time_scale=time_scale):
        raise DemoError("no customer failed within a minute: see the traffic's log in .dev/logs")
    told(f"customers fail: {_percent(failing_share(shop, WINDOW / time_scale))} of requests")
    told(f"$ kubectl apply -f {example.path}")
    alice.run("apply", "-f", str(example.file))
    if not wait_until(lambda: bool(receivers.mail.received), seconds=60):
        raise DemoError("nobody was paged within a minute: kubectl get incidents -o yaml; logs are in .dev/logs")
    told(f"the on-call engineer is paged: {str(receivers.mail.received[0].mail['Subject']).strip()}")
    told(f"$ kubectl incident ack {name}")
    _said(stack, "ack", name)
    told(f"$ kubectl incident watch {name}")
    _said(stack, "watch", name, "--timeout", _WATCH_LIMIT)
    run = alice.json("get", "incidentrun", "-n", SHOP_NAMESPACE, name)
    answer = shop.invoke({"userId": "u-1"})
    click.echo(story(run, example, answer, seconds=time.monotonic() - began))
    if run["status"].get("phase") != "Resolved" or not answer.ok:
        raise DemoError(f"the incident is not resolved: kubectl describe irun {name}; logs are in .dev/logs")
    if not wait_until(lambda: bool(_ends(receivers)), seconds=60):
        raise DemoError("nobody was told of the end: kubectl get incidents -o yaml; logs are in .dev/logs")
    told(f"$ kubectl incident timeline {name}")
    _said(stack, "timeline", name)
    told("stakeholders are told, by mail:")
    click.echo(textwrap.indent(_ends(receivers)[0], "   "))
    told(f"$ kubectl incident review {name}")
    if _said(stack, "review", name) != 0:
        raise DemoError(f"the run left no review: kubectl describe irun {name}; logs are in .dev/logs")


def _ends(receivers: Receivers) -> list[str]:
    """Return the mails that say that it is over, each with its subject."""
    # A long subject is folded: what is unfolded begins with a space.
    mails = [(str(received.mail["Subject"]).strip(), received.mail) for received in receivers.mail.received]
    return [
        f"Subject: {subject}\n\n{mail.get_content().strip()}"
        for subject, mail in mails
        if subject.startswith("[RESOLVED]")
    ]


def _begin_anew(admin: Kubectl, shop: Shop, name: str, *, time_scale: float) -> None:
    """Forget an earlier demo, and wait until customers are well."""
    admin.run("delete", "incidentrun", "-n", SHOP_NAMESPACE, name, "--ignore-not-found")
    admin.run("delete", "incidents", "-n", SHOP_NAMESPACE, "--all")
    heal_all(shop)
    told("waiting until customers are greeted")
    if not wait_until_well(shop, time_scale=time_scale):
        raise DemoError("customers fail though nothing is broken: see .dev/logs")


def _said(stack: Stack, *arguments: str) -> int:
    """Run `kubectl incident` as a person would, for all to see; return its exit code.

    How a run ended is read from the run afterwards, not from the code.
    """
    program = Path(sys.executable).with_name("kubectl-incident")
    environment = {**os.environ, "KUBECONFIG": str(stack.kubeconfig("alice"))}
    sys.stdout.flush()
    return subprocess.run([str(program), *arguments, "-n", SHOP_NAMESPACE], env=environment, check=False).returncode


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.0f}%"


def told(text: str) -> None:
    """Say one thing."""
    click.echo(f"── {text}")


def story(run: Mapping[str, Any], example: Example, answer: Answer, *, seconds: float) -> str:
    """Return what happened, on one screen. Units: seconds from the fault to now."""
    status = run["status"]
    incident = run["spec"]["incident"]
    lines = ["", f"{incident['ticket']}  {incident['title']}  ({incident['severity']})", ""]
    cause = status.get("rootCause", {}).get("summary")
    lines += [*(textwrap.wrap(f"cause:    {cause}", _WIDTH, subsequent_indent=" " * 10) if cause else [])]
    if impact := status.get("impact", {}).get("summary"):
        lines.append(f"impact:   {impact}")
    resolution = f" ({status['resolution']})" if status.get("resolution") else ""
    lines.append(f"run:      {status.get('phase', 'not started')}{resolution}; expected {example.phase}")
    lines.append(_cut(f"customer: {'greeted, ' + str(answer.body) if answer.ok else 'FAILS, ' + answer.error}"))
    lines.append(f"time:     {seconds:.0f} s from the fault to here")
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


@click.command()
@click.option("--state-dir", type=click.Path(path_type=Path), default=ROOT / ".dev", show_default=".dev")
@click.option("--time-scale", default=20.0, show_default=True, help="Divides waits; 1 is real time.")
@click.option("--fault", "name", default="inc-2023-1247", show_default=True, help="What to break.")
def main(state_dir: Path, time_scale: float, name: str) -> None:
    """From nothing to a resolved incident, on this machine."""
    began = time.monotonic()
    try:
        fault = named(name)
        told("bringing the stack up (the first time it builds a control plane, which takes minutes)")
        stack = Stack(state_dir, time_scale=time_scale).up()
        main_part(stack, fault, time_scale=time_scale)
    except (DemoError, ShopError, KubectlError, *FAILURES) as error:
        raise click.ClickException(str(error)) from error
    told(f"done in {time.monotonic() - began:.0f} s; the stack is still running")
    click.echo(f"   source {os.path.relpath(stack.env_file):<12} to use kubectl and aws against it")
    click.echo("   make faults         what else can be broken")
    click.echo("   make down           to end it")


if __name__ == "__main__":
    main()
