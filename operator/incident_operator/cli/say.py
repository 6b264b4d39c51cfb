"""Say something about a run, a plan or an incident: show what is meant, store one Intervention, await the answer."""

import difflib
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
from pydantic import ValidationError

from ..adapters.clock import Clock
from ..api.incident import Incident
from ..api.intervention import InterventionSpec, Verb
from ..api.meta import API_VERSION
from ..api.plan import PlanState, RemediationPlan
from ..api.run import IncidentRun
from ..core.gates import can_open
from .changes import age
from .cluster import Cluster, ClusterError, Forbidden, Gone, Missing, Raw, Unreachable
from .errors import CommandError
from .follow import parsed, run_label, scene_of
from .glossary import ANSWERS
from .incidents import find_incident
from .options import EXIT_EFFECTIVE, EXIT_NO_ANSWER, EXIT_NOT_EFFECTIVE
from .people_view import applied, typed, waiting
from .plan_command import show_page
from .text import clean
from .words import Said, Word

Target = RemediationPlan | IncidentRun | Incident


def say_word(cluster: Cluster, word: Word, said: Said, clock: Clock | None = None) -> int:
    """Say it and return the exit code. Errors: CommandError; then nothing was said."""
    run, target = _meant(cluster, word, said)
    body = intervention(cluster.whoami(), word, said, target)
    if word.verb == "Approve" and isinstance(target, RemediationPlan):
        show_page(cluster, run, target)
        click.echo()
        if not said.yes:
            _confirm(target)
    elif isinstance(target, RemediationPlan):
        click.echo(f"{target.spec.fix}: {clean(target.spec.title)} ({target.status.state})")
    try:
        stored = cluster.create(body)
    except Forbidden as error:
        raise Forbidden(str(error), _may(word, target)) from error
    name = stored["metadata"]["name"]
    if not said.wait:
        click.echo(f"said; the answer will be its condition Effective: kubectl get intv {_at(target)} {name}")
        return EXIT_EFFECTIVE
    answer = _answer(cluster, stored, said.timeout, clock or Clock())
    return _tell(word, said, target, name, answer)


def _meant(cluster: Cluster, word: Word, said: Said) -> tuple[IncidentRun | None, Target]:
    """Return what is spoken of, with its run where that is known. Errors: CommandError."""
    if word.subject == "incident":
        return None, find_incident(cluster, said.run)
    try:
        run, plans = _scene(cluster, word, said.run)
    except Missing as missing:
        if word.verb != Verb.NOTE:
            raise
        try:
            return None, find_incident(cluster, said.run)
        except Missing:
            raise missing from None
    if word.subject != "run":
        return run, chosen_plan(plans, word, said)
    assert run is not None  # noqa: S101  (only applied plans are looked for without a run)
    if said.fix is not None:
        _check_fix(run, said.fix)
    return run, run


def _scene(cluster: Cluster, word: Word, name: str) -> tuple[IncidentRun | None, tuple[RemediationPlan, ...]]:
    """Return the run and its plans. What was applied may outlive its run. Errors: Missing, ClusterError."""
    items: tuple[Raw, ...] = ()
    if word.subject != "run":
        items = cluster.list("RemediationPlan", cluster.namespace, labelSelector=run_label(name)).items
    try:
        raw = cluster.get("IncidentRun", cluster.namespace, name)
    except Missing:
        if word.subject == "applied" and items:
            plans = [parsed(RemediationPlan, item) for item in items]
            return None, tuple(sorted((p for p in plans if p.spec.run_ref.name == name), key=age))
        raise cluster.missing("IncidentRun", cluster.namespace, name) from None
    scene = scene_of((raw,), items)
    return scene.run, scene.plans


def chosen_plan(plans: Sequence[RemediationPlan], word: Word, said: Said) -> RemediationPlan:
    """Return the one plan that is meant: by fix or plan name, or the only one there is.

    Errors: Missing where there is none; CommandError that lists what to type where there are several.
    """
    fit = waiting(plans) if word.subject == "open" else applied(plans)
    what = "waits for a decision" if word.subject == "open" else "has changed anything that is still in place"
    if said.fix is not None:
        named = [p for p in plans if said.fix in (p.spec.fix, p.metadata.name)]
        if not named:
            known = ", ".join(dict.fromkeys(p.spec.fix for p in plans)) or "the run has no plan"
            raise Missing(f"run {said.run} has no plan or fix {said.fix!r}", f"there are: {known}")
        fit = [p for p in fit if p in named]
        if not fit:
            newest = named[-1]
            message = f"no plan of {newest.spec.fix} {what}: {newest.metadata.name} is {newest.status.state}"
            if newest.status.state == PlanState.SUPERSEDED:
                message += f": {clean(newest.status.message)}"
            raise Missing(message, f"read it: {typed('plan', newest)}")
    elif word.verb == Verb.APPROVE:
        # What no approval lets through is not asked, so it is not what is meant; by its name it can be.
        fit = [p for p in fit if can_open(p.status.gates)] or fit
    newest_of = {plan.spec.fix: plan for plan in sorted(fit, key=age)}
    if len(newest_of) == 1:
        return next(iter(newest_of.values()))
    if not newest_of:
        states = [f"{p.spec.fix} is {p.status.state}" for p in {p.spec.fix: p for p in plans}.values()]
        raise Missing(f"no plan of run {said.run} {what}", "; ".join(states) or "the run has no plan")
    commands = [f"{typed(word.name, plan)}    # {clean(plan.spec.title)}" for plan in newest_of.values()]
    raise CommandError(f"run {said.run} has {len(newest_of)} such plans: say which", "\n".join(commands))


def _check_fix(run: IncidentRun, name: str) -> None:
    """Refuse a fix that the run's runbook does not have. Errors: Missing."""
    fixes = [fix.name for step in run.status.steps for fix in step.fixes]
    if fixes and name not in fixes:
        near = difflib.get_close_matches(name, fixes, n=3) or fixes
        raise Missing(f"run {run.metadata.name} has no fix {name!r}", f"there are: {', '.join(near)}")


def intervention(responder: str, word: Word, said: Said, target: Target) -> Raw:
    """Return the object to create. Errors: CommandError for what the API server would refuse."""
    if (said.override or said.break_glass) and not said.reason:
        raise CommandError("--override and --break-glass need a --reason", "it is what the review will quote")
    fields: dict[str, Any] = {
        "target": {"kind": target.kind, "name": target.metadata.name, "uid": target.metadata.uid},
        "verb": word.verb,
        "responder": responder,
        "reason": said.reason,
    }
    if word.verb == Verb.APPROVE and isinstance(target, RemediationPlan):
        hard = [g.name for g in target.status.gates if g.hard and g.name in said.override]
        if hard:
            raise CommandError(f"{', '.join(hard)} can't be overridden: it is a hard gate", typed("plan", target))
        fields |= {"tier": target.spec.tier, "override": said.override, "breakGlass": said.break_glass}
    if word.verb == Verb.CANCEL:
        fields["then"] = "Revert" if said.revert else "Leave"
    if word.fix:
        fields["fix"] = said.fix
    if word.value is not None:
        fields[word.value[0]] = said.value
    if said.duty is not None:
        fields["duty"] = said.duty
    try:
        spec = InterventionSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    owner = {
        "apiVersion": API_VERSION,
        "kind": target.kind,
        "name": target.metadata.name,
        "uid": target.metadata.uid,
    }
    label = "incident" if isinstance(target, Incident) else "run"
    wire = {key: value for key, value in spec.wire().items() if value not in ([], False)}
    return {
        "apiVersion": API_VERSION,
        "kind": "Intervention",
        "metadata": {
            "generateName": f"{said.run}-{word.name}-",
            "namespace": target.metadata.namespace,
            "labels": {f"ops.shopsmart.com/{label}": said.run[:63].rstrip("-.")},
            "ownerReferences": [owner],
        },
        "spec": wire,
    }


def _confirm(plan: RemediationPlan) -> None:
    """Ask for the fix's name. Errors: CommandError where something else came, or nothing."""
    fix = plan.spec.fix
    click.echo(f"Type {fix} to approve this plan, anything else to leave it: ", nl=False)
    given = sys.stdin.readline()
    if not given:
        click.echo()
        raise CommandError("nothing was typed, so nothing was approved", "scripts say --yes")
    if given.strip() != fix:
        raise CommandError(f"that is not {fix!r}: nothing was approved")


def _answer(cluster: Cluster, stored: Raw, timeout: timedelta, clock: Clock) -> Raw | None:
    """Return the condition Effective once it is there; None where nobody answers in time, or it can't be read."""
    deadline = clock.monotonic() + timeout.total_seconds()
    metadata = stored["metadata"]
    while (left := deadline - clock.monotonic()) > 0:
        try:
            now = cluster.get("Intervention", metadata["namespace"], metadata["name"])
            found = effective(now)
            if found is not None:
                return found
            since = now["metadata"]["resourceVersion"]
            selectors = {"fieldSelector": f"metadata.name={metadata['name']}"}
            seconds = max(1, min(60, round(left)))
            for event, raw in cluster.watch(
                "Intervention", metadata["namespace"], since, selectors=selectors, seconds=seconds
            ):
                if event == "DELETED":
                    raise ClusterError(f"Intervention {metadata['name']} was deleted before it was answered")
                found = effective(raw) if event != "BOOKMARK" else None
                if found is not None:
                    return found
        except Gone:
            continue
        except (Forbidden, Unreachable) as error:
            click.echo(f"its answer can't be read: {error}", err=True)
            return None
    return None


def effective(raw: Raw) -> Raw | None:
    """Return the condition by which the operator has answered a stored intervention, if it has."""
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Effective" and c["status"] in ("True", "False")), None)


def _tell(word: Word, said: Said, target: Target, name: str, answer: Raw | None) -> int:
    """Print what became of it, and return the exit code."""
    what = target.spec.fix if isinstance(target, RemediationPlan) else said.fix or said.run
    if answer is None:
        click.echo(f"no answer yet: {name} is stored, and counts when the operator reads it", err=True)
        click.echo("  the operator may be down: kubectl -n incident-system get pods,leases", err=True)
        click.echo(f"  the answer, when it comes: kubectl get intv {_at(target)} {name} -o wide", err=True)
        if isinstance(target, RemediationPlan) and word.subject == "open":
            click.echo(f"  to do it by hand meanwhile: {_script(target)}", err=True)
        return EXIT_NO_ANSWER
    reason, message = clean(answer["reason"]), clean(answer.get("message", ""))
    if answer["status"] == "True":
        detail = message or (reason if reason.lower() != word.done else "")
        click.echo(f"{what} {word.done}" + (f": {detail}" if detail else ""))
        follow = "who" if isinstance(target, Incident) else "watch"
        click.echo(f"  type: kubectl incident {follow} {_at(target)} {said.run}")
        return EXIT_EFFECTIVE
    click.echo(f"{what} not {word.done}: {reason}" + (f": {message}" if message else ""))
    if reason in ANSWERS:
        click.echo(f"  {ANSWERS[reason]}")
    read = "who" if isinstance(target, Incident) else "plan"
    click.echo(f"  type: kubectl incident {read} {_at(target)} {said.run}")
    return EXIT_NOT_EFFECTIVE


def _script(plan: RemediationPlan) -> str:
    return f"kubectl incident script {_at(plan)} {plan.spec.run_ref.name} --fix {plan.spec.fix}"


def _at(target: Target) -> str:
    return f"-n {target.metadata.namespace or 'default'}"


def _may(word: Word, target: Target) -> str:
    """Return how to see what one may say about this very object."""
    resource = type(target).resource.plural
    verb = word.permission
    if isinstance(target, RemediationPlan) and word.verb == Verb.APPROVE:
        verb += f"-{target.spec.tier.lower()}"
    where = f"{resource}.ops.shopsmart.com/{target.metadata.name} {_at(target)}"
    return f"see what you may say: kubectl auth can-i {verb} {where}"
