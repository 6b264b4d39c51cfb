"""How controllers ask the catalogue: a check's answer, a fix's proposal, all through ports.

Everything here is effect: it runs before or after a decision, never inside one. Its results (`CheckResult`,
`FixResult`, the observations of `core.plan`) are the inputs of the next decision.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError

from ..actions.base import CheckAction, FixAction, Found, Inputs, Unclear
from ..actions.catalogue import catalogue, infos
from ..actions.ports import Reader, ReadError
from ..adapters.kube import NotFound
from ..api.grant import ActionGrant
from ..api.incident import Incident
from ..api.meta import format_instant
from ..api.plan import Permission, RemediationPlan
from ..api.run import CheckState, CheckStatus, Finding, FixState, Impact, IncidentRun, IncidentRunStatus
from ..api.runbook import Check, FindingKind, Fix, RunbookSpec
from ..core.draft import NotApplicable, PlanDraft
from ..core.gates import GateFacts, closed
from ..core.impact import impact_of
from ..core.incident import has_incident, incident_name
from ..core.maintenance import FixTrial
from ..core.planning import complete, hash_draft
from ..core.risk import matches
from ..core.run import CheckResult, FixResult, detected_at, not_called_for, outputs, plan_attempt, spent
from ..core.runbook import bind_inputs, finders
from .context import Context
from .resolving import guardrails_of, is_stale

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long before its detection an incident is taken to have begun; scaled.
LEAD = timedelta(minutes=15)
MAX_OUTPUT_BYTES = 2048


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What one diagnosis of one run is about.

    Shape: `memo` is shared by its reads, so that the same read is made once; `grants` are those for the run's
    namespace, by name.
    """

    run: IncidentRun
    runbook: RunbookSpec
    parameters: Mapping[str, Any]
    grants: tuple[ActionGrant, ...]
    since: datetime
    now: datetime
    dependencies: Mapping[str, frozenset[str]]
    memo: Any = field(repr=False)

    def grant_for(self, action: str) -> ActionGrant | None:
        """Return the first grant, by name, that permits an action."""
        return grant_for(self.grants, action)

    def variables(self, checks: Mapping[str, CheckResult]) -> dict[str, Any]:
        """Return what the inputs and conditions of checks and fixes see."""
        incident = self.run.spec.incident
        return {
            "parameters": dict(self.parameters),
            "checks": outputs(checks),
            "findings": sorted({f.reason for r in checks.values() for f in r.findings}),
            "incident": {
                "ticket": incident.ticket or "",
                "title": incident.title or "",
                "severity": str(incident.severity),
                "detectedAt": format_instant(detected_at(self.run, self.now)),
            },
            "now": format_instant(self.now),
        }


def grant_for(grants: Sequence[ActionGrant], action: str) -> ActionGrant | None:
    """Return the first of these grants that permits an action. Shape: sorted by name."""
    return next((g for g in grants if matches(action, g.spec.actions)), None)


#: How long after a fix what was begun before it may still fail; scaled.
SETTLE = timedelta(minutes=1)


def look_back_from(run: IncidentRun, plans: Sequence[RemediationPlan], context: Context) -> datetime:
    """Return how far back a diagnosis may look: the incident less a lead, or a minute after the newest fix."""
    now = context.clock.now()
    start = detected_at(run, now) - context.settings.scaled(LEAD)
    settle = context.settings.scaled(SETTLE)
    applied = [p.status.applied_at + settle for p in plans if p.status.applied_at is not None]
    return min(now, max([start, *applied]))


async def ask_check(context: Context, scope: Scope, check: Check, checks: Mapping[str, CheckResult]) -> CheckResult:
    """Ask one check: inputs, observation, findings of the action and of the runbook. Never raises for a bad world."""
    started_at = context.clock.now()
    try:
        return await _ask(context, scope, check, checks, started_at)
    except ReadError as error:
        return _gave_no_answer(context, check, started_at, CheckState.ERROR, error.reason, error.message)
    except ValidationError as error:
        return _gave_no_answer(context, check, started_at, CheckState.ERROR, "InvalidInput", _first(error))
    except TimeoutError:
        return _gave_no_answer(context, check, started_at, CheckState.ERROR, "Timeout", "no answer in time")


async def ask_in_order(context: Context, scope: Scope, names: Collection[str]) -> dict[str, CheckResult]:
    """Ask these checks of the scope's runbook, each after those it reads, otherwise at once; by name."""
    results: dict[str, CheckResult] = {}
    waiting = [check for check in scope.runbook.checks if check.name in names]
    while waiting:
        ready = [check for check in waiting if scope.dependencies[check.name] <= results.keys()]
        answers = await asyncio.gather(*(ask_check(context, scope, check, results) for check in ready))
        results.update(zip((check.name for check in ready), answers, strict=True))
        waiting = [check for check in waiting if check.name not in results]
    return results


async def _ask(
    context: Context, scope: Scope, check: Check, checks: Mapping[str, CheckResult], started_at: datetime
) -> CheckResult:
    for name in sorted(scope.dependencies.get(check.name, frozenset())):
        if checks[name].status.state == CheckState.ERROR:
            message = f"check {name} gave no answer: {checks[name].status.message}"
            return _gave_no_answer(context, check, started_at, CheckState.INCONCLUSIVE, "DependencyError", message)
    action = catalogue()[check.action]
    assert isinstance(action, CheckAction)  # noqa: S101  (core.runbook refuses a fix used as a check)
    grant = scope.grant_for(check.action)
    if grant is None:
        message = f"no ActionGrant permits {check.action} here; ask a platform admin for one"
        return _gave_no_answer(context, check, started_at, CheckState.ERROR, "NotGranted", message)
    bound = bind_inputs(infos()[check.action], check.inputs, {p.name for p in scope.runbook.parameters})
    rendered = await context.render(bound, scope.variables(checks), owner=scope.run.spec.runbook_ref.name)
    if rendered.error:
        return _gave_no_answer(context, check, started_at, CheckState.ERROR, "ExpressionFailed", rendered.error)
    inputs = action.inputs_model.model_validate(_without_nulls(rendered.value))
    reader = context.reader(grant, since=scope.since, memo=scope.memo, run=scope.run)

    def look() -> tuple[dict[str, Any], dict[str, Any], Sequence[Found] | Unclear]:
        facts = action.observe(inputs, reader)
        # Only rules ask for it: most checks have none, and it is made of all the facts.
        judged = action.judged(facts).wire() if check.findings else {}
        return action.output(facts).wire(), judged, action.findings(inputs, facts)

    output, judged, answer = await _of_the_catalogue(context, check.action, look)
    if len(json.dumps(output)) > MAX_OUTPUT_BYTES:
        output = {"outputTooLarge": True}
    found = answer.found if isinstance(answer, Unclear) else tuple(answer)
    findings = [_finding(check, action, f) for f in found]
    extra, failure = await _runbook_findings(context, scope, check, inputs, judged)
    findings += extra
    state, reason, message = CheckState.PASSED, None, ""
    problems = [f for f in findings if f.kind == FindingKind.PROBLEM]
    if problems:
        state, reason, message = CheckState.FAILED, problems[0].reason, problems[0].message
    elif isinstance(answer, Unclear):
        state, reason, message = CheckState.INCONCLUSIVE, answer.reason, answer.message
    elif failure:
        state, reason, message = CheckState.ERROR, "ExpressionFailed", failure
    status = CheckStatus(
        name=check.name,
        action=check.action,
        state=state,
        reason=reason,
        message=message[:1024],
        started_at=started_at,
        finished_at=context.clock.now(),
        output=output,
    )
    retry_at = answer.retry_at if isinstance(answer, Unclear) else None
    return CheckResult(status=status, findings=tuple(findings), retry_at=retry_at)


def _finding(check: Check, action: CheckAction[Any, Any], found: Found) -> Finding:
    info = action.reasons[found.reason]
    return Finding(
        reason=found.reason,
        check=check.name,
        kind=info.kind,
        root_cause=info.root_cause,
        message=found.message[:1024],
        subject=found.subject,
        actor=found.actor,
        at=found.at,
    )


async def _runbook_findings(
    context: Context, scope: Scope, check: Check, inputs: Inputs, output: Mapping[str, Any]
) -> tuple[list[Finding], str]:
    """Evaluate the findings the runbook adds; returns them and the first failure."""
    if not check.findings:
        return [], ""
    variables = {
        "output": dict(output),
        "inputs": inputs.wire(),
        "parameters": dict(scope.parameters),
        "now": format_instant(scope.now),
    }
    answers = await context.evaluate(
        [rule.when for rule in check.findings], variables, owner=scope.run.spec.runbook_ref.name, scope="finding"
    )
    findings, failure = [], ""
    for rule, answer in zip(check.findings, answers, strict=True):
        if answer.error:
            failure = failure or f"finding {rule.reason}: {answer.error}"
        elif answer.value is True:
            findings.append(
                Finding(
                    reason=rule.reason,
                    check=check.name,
                    kind=rule.kind,
                    root_cause=rule.root_cause,
                    message=rule.message,
                )
            )
    return findings, failure


def _gave_no_answer(
    context: Context, check: Check, started_at: datetime, state: CheckState, reason: str, message: str
) -> CheckResult:
    return CheckResult(
        status=CheckStatus(
            name=check.name,
            action=check.action,
            state=state,
            reason=reason,
            message=message[:1024],
            started_at=started_at,
            finished_at=context.clock.now(),
        )
    )


def _first(error: ValidationError) -> str:
    """Return the first problem of an input without its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"


def _without_nulls(value: Any) -> Any:
    """Return an input object without keys that are null: a parameter that was left out binds nothing."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


async def plan_fix(
    context: Context,
    scope: Scope,
    fix: Fix,
    checks: Mapping[str, CheckResult],
    plans: tuple[RemediationPlan, ...],
    status: IncidentRunStatus,
) -> FixResult:
    """See whether a fix applies to what was found, and if so plan it. Never raises for a bad world."""
    reasons = {f.reason for r in checks.values() for f in r.findings}
    if fix.on_findings and not reasons & set(fix.on_findings):
        return not_called_for(fix, finders(scope.runbook, infos(), fix.on_findings), checks)
    variables = scope.variables(checks)
    owner = scope.run.spec.runbook_ref.name
    if fix.when is not None:
        (answer,) = await context.evaluate([fix.when], variables, owner=owner, scope="input")
        if answer.error:
            return FixResult(
                name=fix.name, state=FixState.NOT_APPLICABLE, reason="ExpressionFailed", message=f"when: {answer.error}"
            )
        if answer.value is not True:
            return FixResult(name=fix.name, state=FixState.NOT_NEEDED)
    try:
        return await _plan(context, scope, fix, variables, plans, status)
    except ReadError as error:
        return FixResult(name=fix.name, state=FixState.ERROR, reason=error.reason, message=error.message)
    except ValidationError as error:
        return FixResult(name=fix.name, state=FixState.NOT_APPLICABLE, reason="InvalidInput", message=_first(error))
    except TimeoutError:
        return FixResult(name=fix.name, state=FixState.ERROR, reason="Timeout", message="no answer in time")


async def _plan(
    context: Context,
    scope: Scope,
    fix: Fix,
    variables: dict[str, Any],
    plans: tuple[RemediationPlan, ...],
    status: IncidentRunStatus,
) -> FixResult:
    bound = bind_inputs(infos()[fix.action], fix.inputs, {p.name for p in scope.runbook.parameters})
    rendered = await context.render(bound, variables, owner=scope.run.spec.runbook_ref.name)
    if rendered.error:
        return FixResult(
            name=fix.name, state=FixState.NOT_APPLICABLE, reason="ExpressionFailed", message=rendered.error
        )
    grant = scope.grant_for(fix.action)
    if grant is None or grant.spec.aws is None:
        message = f"no ActionGrant permits {fix.action} here; ask a platform admin for one"
        return FixResult(name=fix.name, state=FixState.NOT_APPLICABLE, reason="GrantMissing", message=message)
    wire = _without_nulls(rendered.value)
    draft = await _draft(context, scope, fix.action, wire, grant)
    if isinstance(draft, NotApplicable):
        return FixResult(
            name=fix.name,
            state=FixState.NOT_APPLICABLE,
            reason=draft.reason,
            message=draft.message,
            for_now=draft.for_now,
        )
    permission: Permission = await context.pool.run(
        context.aws.simulate, grant.spec.aws, draft.calls, timeout=context.settings.observe_timeout
    )
    confidential = await is_confidential(context, scope.run)
    hash_ = hash_draft(draft, grant, fix=fix.name, confidential=confidential)
    plan = complete(
        draft,
        run=scope.run,
        fix=fix,
        attempt=plan_attempt(plans, fix.name, hash_, draft.candidates),
        inputs=wire,
        grant=grant,
        permission=permission,
        confidential=confidential,
    )
    past = spent(plan, plans, status)
    if past is not None:
        reason, message = past
        return FixResult(name=fix.name, state=FixState.NOT_APPLICABLE, reason=reason, message=message)
    stored = next((p for p in plans if p.metadata.name == plan.metadata.name), None)
    cooldown, circuit_open = guardrails_of(context, scope.run)
    gates = closed(
        GateFacts(
            plan=plan.spec,
            run_automation=scope.run.spec.automation,
            grant=grant,
            baseline=status.baseline,
            now=context.clock.now(),
            approvals=stored.status.approvals if stored is not None else (),
            drill=scope.run.spec.drill,
            runbook_stale=await is_stale(context, scope.run),
            admission=await context.admission.in_force(),
            cooldown_until=cooldown,
            circuit_open=circuit_open,
            fixes=status.fixes,
            skipped=status.skipped,
        )
    )
    return FixResult(name=fix.name, plan=plan, gates=gates)


async def try_fix(
    context: Context, scope: Scope, fix: Fix, checks: Mapping[str, CheckResult]
) -> tuple[FixTrial, PlanDraft | None]:
    """Plan a fix whether its findings are there or not, and keep nothing of it. Never raises for a bad world."""
    variables, owner = scope.variables(checks), scope.run.spec.runbook_ref.name

    def failed(reason: str, message: str) -> tuple[FixTrial, None]:
        return FixTrial(name=fix.name, failed=True, reason=reason, message=message), None

    if fix.when is not None:
        (answer,) = await context.evaluate([fix.when], variables, owner=owner, scope="input")
        if answer.error:
            return failed("ExpressionFailed", f"when: {answer.error}")
    bound = bind_inputs(infos()[fix.action], fix.inputs, {p.name for p in scope.runbook.parameters})
    rendered = await context.render(bound, variables, owner=owner)
    if rendered.error:
        return failed("ExpressionFailed", rendered.error)
    grant = scope.grant_for(fix.action)
    if grant is None or grant.spec.aws is None:
        return failed("GrantMissing", f"no ActionGrant permits {fix.action} here; ask a platform admin for one")
    try:
        draft = await _draft(context, scope, fix.action, _without_nulls(rendered.value), grant)
    except ReadError as error:
        return failed(error.reason, error.message)
    except ValidationError as error:
        return failed("InvalidInput", _first(error))
    except TimeoutError:
        return failed("Timeout", "no answer in time")
    if isinstance(draft, NotApplicable):
        return FixTrial(name=fix.name, reason=draft.reason, message=draft.message), None
    return FixTrial(name=fix.name, planned=True), draft


async def _draft(
    context: Context, scope: Scope, name: str, wire: Mapping[str, Any], grant: ActionGrant
) -> PlanDraft | NotApplicable:
    """Observe and plan one fix. Errors: ReadError, ValidationError, TimeoutError."""
    action = catalogue()[name]
    assert isinstance(action, FixAction)  # noqa: S101  (core.runbook refuses a check used as a fix)
    inputs = action.inputs_model.model_validate(wire)
    reader = context.reader(grant, since=scope.since, memo=scope.memo, run=scope.run)
    return await _of_the_catalogue(context, name, lambda: action.plan(inputs, action.observe(inputs, reader)))


async def _of_the_catalogue(context: Context, name: str, work: Callable[[], T]) -> T:
    """Do what an action does, in a thread. Errors: ReadError, TimeoutError.

    What an action did not foresee is an answer as well: a run would otherwise begin again for ever.
    """

    def contained() -> T:
        try:
            return work()
        except (ReadError, TimeoutError):
            raise
        except Exception:
            log.exception("action %s failed in a way that it does not foresee", name)
            message = f"{name} failed in a way that it does not foresee: the operator's log has the traceback"
            raise ReadError("InternalError", message) from None

    return await context.pool.run(contained, timeout=context.settings.observe_timeout)


async def is_confidential(context: Context, run: IncidentRun) -> bool:
    """Tell whether a run's incident is confidential, from its first plan on. Errors: KubeError."""
    if not has_incident(run):
        return False
    key = (run.metadata.namespace or "", incident_name(run))
    incident = context.store.read("Incident", key, Incident.model_validate)
    if incident is None:
        # One that people opened was there before the run: the watch may only be late.
        try:
            incident = Incident.model_validate(await context.kube.get("Incident", *key))
        except NotFound:
            return False
    return incident is not None and incident.spec.confidential


def same_plan(plan: RemediationPlan, draft: PlanDraft, grant: ActionGrant) -> bool:
    """Tell whether a draft made now is the plan that was stored, by its hash."""
    return grant.spec.aws is not None and plan.spec.hash == hash_draft(
        draft, grant, fix=plan.spec.fix, confidential=plan.spec.confidential
    )


async def measure_impact(context: Context, scope: Scope, checks: Mapping[str, CheckResult]) -> Impact | None:
    """Evaluate the runbook's impact expressions; None where they have no answer, and there is no estimate either."""
    wanted = scope.runbook.impact
    if wanted is None:
        return None
    sources = [wanted.failed, wanted.total]
    if wanted.estimate is not None:
        sources += [wanted.estimate.failed, wanted.estimate.total]
    answers = await context.evaluate(
        sources, scope.variables(checks), owner=scope.run.spec.runbook_ref.name, scope="input"
    )
    values = [a.value if not a.error and isinstance(a.value, int | float) else None for a in answers]
    return impact_of(values[0], values[1]) or (
        impact_of(values[2], values[3], estimated_by=wanted.estimate.by) if wanted.estimate is not None else None
    )


def reader_of(context: Context, grant: ActionGrant, since: datetime, run: IncidentRun | None) -> Reader:
    """Return a reader that shares nothing: for looking again just before or after a call."""
    return context.reader(grant, since=since, memo=None, run=run)
