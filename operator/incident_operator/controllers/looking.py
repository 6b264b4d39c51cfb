"""A look at users after the end: checks of the run that ended last, read-only, under its own grants."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from ..adapters.kube import NotFound
from ..api.run import CheckState, IncidentRun
from ..api.runbook import RunbookSpec
from ..core.incident import PROVEN_BY, AskRecovery, Look, Proof
from ..core.run import CheckResult, Refusal
from ..core.runbook import dependencies, needed_by, with_closeout
from .context import Context
from .observing import LEAD, Scope, ask_in_order
from .resolving import resolve

State = Literal["Passing", "Failing", "Unknown"]


async def look_at_recovery(context: Context, namespace: str, asked: AskRecovery) -> Look:
    """Ask the recovery checks of a run that has ended; at the last look those of its runbook's close-out, too.

    Unknown wherever one gives no answer. Errors: KubeError.
    """
    now, name, last = context.clock.now(), asked.run, asked.last
    if name is None:
        return _blind(context, "no run was at work on it, so no checks are known", last)
    try:
        run = IncidentRun.model_validate(await context.kube.get("IncidentRun", namespace, name))
    except NotFound:
        return _blind(context, f"run {name} is gone, so its checks are not known", last)
    resolved = await resolve(context, run)
    if isinstance(resolved, Refusal):
        return _blind(context, resolved.message, last)
    whole = with_closeout(resolved.runbook)
    lately = Scope(
        run=run,
        runbook=whole,
        parameters=resolved.parameters,
        grants=resolved.grants,
        since=now - context.settings.scaled(LEAD),
        now=now,
        dependencies=dependencies(whole),
        memo=context.aws.memo(),
    )
    results = await _asked(context, lately, whole.recovery.checks)
    state, message = _summed_up(whole.recovery.checks, results)
    if not last:
        return Look(at=now, state=state, message=message)
    # An alarm is asked what it did since the incident began; everything else, what is true lately.
    since = min(lately.since, asked.began - context.settings.scaled(LEAD))
    alarms = dataclasses.replace(lately, since=since)
    proofs = {
        duty: await _proof(context, alarms if duty == "alertsWorking" else lately, duty, field)
        for duty, field in PROVEN_BY.items()
    }
    return Look(at=now, state=state, message=message, duties=proofs)


async def _proof(context: Context, scope: Scope, duty: str, field: str) -> Proof:
    """Return what the checks say that the runbook names for a duty; Unknown where it names none."""
    names = _named(scope.runbook, duty)
    if not names:
        return Proof(state="Unknown", message=f"the runbook names no checks for it (closeout.{field})")
    state, message = _summed_up(names, await _asked(context, scope, names))
    return Proof(state=state, message=message or f"these checks pass: {', '.join(names)}")


def _named(runbook: RunbookSpec, duty: str) -> tuple[str, ...]:
    closeout = runbook.closeout
    if closeout is None:
        return ()
    return closeout.alarms if duty == "alertsWorking" else closeout.watch_also


async def _asked(context: Context, scope: Scope, names: Sequence[str]) -> Mapping[str, CheckResult]:
    return await ask_in_order(context, scope, needed_by(names, scope.dependencies))


def _summed_up(names: Sequence[str], results: Mapping[str, CheckResult]) -> tuple[State, str]:
    """Return what checks amount to, and in words what does not pass: one that failed counts before one unknown."""
    shown = [results[name].status for name in names]
    failed = [check for check in shown if check.state == CheckState.FAILED]
    unknown = [check for check in shown if check.state not in (CheckState.FAILED, CheckState.PASSED)]
    message = ", ".join(
        f"{check.name}: {check.reason or check.state}" + (f" ({check.message})" if check.message else "")
        for check in failed or unknown
    )
    return "Failing" if failed else "Unknown" if unknown else "Passing", message


def _blind(context: Context, message: str, last: bool) -> Look:
    """Return a look that saw nothing, and why."""
    proofs = {duty: Proof(state="Unknown", message=message) for duty in PROVEN_BY} if last else {}
    return Look(at=context.clock.now(), state="Unknown", message=message, duties=proofs)
