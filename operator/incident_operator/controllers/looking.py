"""A look at users after the end: the recovery checks of the run that ended last, read-only, under its own grants."""

from ..adapters.kube import NotFound
from ..api.run import CheckState, IncidentRun
from ..core.incident import Look
from ..core.run import Refusal
from ..core.runbook import needed_by
from .context import Context
from .observing import LEAD, Scope, ask_in_order
from .resolving import resolve


async def look_at_recovery(context: Context, namespace: str, name: str | None) -> Look:
    """Ask the recovery checks of a run that has ended. Unknown wherever one gives no answer. Errors: KubeError."""
    now = context.clock.now()
    if name is None:
        return Look(at=now, state="Unknown", message="no run was at work on it, so no checks are known")
    try:
        run = IncidentRun.model_validate(await context.kube.get("IncidentRun", namespace, name))
    except NotFound:
        return Look(at=now, state="Unknown", message=f"run {name} is gone, so its checks are not known")
    resolved = await resolve(context, run)
    if isinstance(resolved, Refusal):
        return Look(at=now, state="Unknown", message=resolved.message)
    scope = Scope(
        run=run,
        runbook=resolved.runbook,
        parameters=resolved.parameters,
        grants=resolved.grants,
        since=now - context.settings.scaled(LEAD),
        now=now,
        dependencies=resolved.dependencies,
        memo=context.aws.memo(),
    )
    names = resolved.runbook.recovery.checks
    results = await ask_in_order(context, scope, needed_by(names, resolved.dependencies))
    shown = [results[name].status for name in names]
    failed = [check for check in shown if check.state == CheckState.FAILED]
    unknown = [check for check in shown if check.state not in (CheckState.FAILED, CheckState.PASSED)]
    message = ", ".join(f"{check.name}: {check.reason or check.state}" for check in failed or unknown)
    return Look(at=now, state="Failing" if failed else "Unknown" if unknown else "Passing", message=message)
