"""`make demo`: bring the stack up, break something real, apply a run, watch it end, and look whether it is true.

Ends 0 only if the run is Resolved and a customer, who knows nothing of runs, is greeted again.
"""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.loopback import ROOT
from dev.shop.alarm import WINDOW, failing_share, wait_until_felt, wait_until_well
from dev.shop.examples import Example, examples
from dev.shop.faults import Fault, heal_all, named
from dev.shop.shop import Answer, Shop, ShopError, load
from dev.stack import FAILURES, SHOP_NAMESPACE, Stack
from incident_operator.api.meta import parse_instant

_WIDTH = 110
_WATCH_LIMIT = "5m"


class DemoError(RuntimeError):
    """The demo did not come to its end; the message says what to look at."""


def main_part(stack: Stack, fault: Fault, *, time_scale: float) -> None:
    """Break, apply, watch, tell. Errors: DemoError."""
    example = examples()[fault.example]
    name = example.manifest["metadata"]["name"]
    shop = load(stack.state_dir)
    admin, alice = Kubectl(stack.kubeconfig()), Kubectl(stack.kubeconfig("alice"))
    _begin_anew(admin, shop, name, time_scale=time_scale)
    began = time.monotonic()
    told(f"breaking {shop.function}: {fault.title} (by {fault.actor})")
    fault.break_(shop)
    if not wait_until_felt(shop, time_scale=time_scale):
        raise DemoError("no customer failed within a minute: see the traffic's log in .dev/logs")
    told(f"customers fail: {_percent(failing_share(shop, WINDOW / time_scale))} of requests")
    told(f"$ kubectl apply -f {example.path}")
    alice.run("apply", "-f", str(example.file))
    told(f"$ kubectl incident watch {name}")
    _said(stack, "watch", name, "--timeout", _WATCH_LIMIT)
    run = alice.json("get", "incidentrun", "-n", SHOP_NAMESPACE, name)
    answer = shop.invoke({"userId": "u-1"})
    click.echo(story(run, example, answer, seconds=time.monotonic() - began))
    if run["status"].get("phase") != "Resolved" or not answer.ok:
        raise DemoError(f"the incident is not resolved: kubectl describe irun {name}; logs are in .dev/logs")
    told(f"$ kubectl incident review {name}")
    if _said(stack, "review", name) != 0:
        raise DemoError(f"the run left no review: kubectl describe irun {name}; logs are in .dev/logs")


def _begin_anew(admin: Kubectl, shop: Shop, name: str, *, time_scale: float) -> None:
    """Forget an earlier demo, and wait until customers are well."""
    admin.run("delete", "incidentrun", "-n", SHOP_NAMESPACE, name, "--ignore-not-found")
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
    timeline = status.get("timeline", [])
    start = parse_instant(timeline[0]["at"]) if timeline else None
    lines = ["", f"{incident['ticket']}  {incident['title']}  ({incident['severity']})", ""]
    lines += [_turn(entry, start) for entry in timeline]
    cause = status.get("rootCause", {}).get("summary")
    lines += ["", *(textwrap.wrap(f"cause:    {cause}", _WIDTH, subsequent_indent=" " * 10) if cause else [])]
    if impact := status.get("impact", {}).get("summary"):
        lines.append(f"impact:   {impact}")
    resolution = f" ({status['resolution']})" if status.get("resolution") else ""
    lines.append(f"run:      {status.get('phase', 'not started')}{resolution}; expected {example.phase}")
    lines.append(_cut(f"customer: {'greeted, ' + str(answer.body) if answer.ok else 'FAILS, ' + answer.error}"))
    lines.append(f"time:     {seconds:.0f} s from the fault to here")
    return "\n".join(lines)


def _turn(entry: Mapping[str, Any], start: datetime | None) -> str:
    passed = (parse_instant(entry["at"]) - start).total_seconds() if start else 0.0
    return _cut(f"{passed:+7.1f} s  {entry['reason']:<22} {entry['message']}")


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
