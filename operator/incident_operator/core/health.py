"""What a policy's health rests on: checks of its runbook and its own, with the checks that they read."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from ..api.policy import Health
from ..api.runbook import Check, Recovery, RunbookSpec, Step
from .catalogue import Catalogue
from .runbook import dependencies, needed_by, validate


@dataclass(frozen=True, kw_only=True)
class HealthPlan:
    """The checks to ask.

    Shape: `runbook` has them as its checks and no fixes; `asked` in an order in which each comes after those it reads.
    """

    runbook: RunbookSpec
    dependencies: Mapping[str, frozenset[str]]
    asked: tuple[Check, ...]


def plan_health(health: Health, runbook: RunbookSpec, catalogue: Catalogue) -> HealthPlan | str:
    """Return the checks that health rests on, or what is wrong with the first that can't be asked."""
    known = {check.name for check in runbook.checks}
    for number, check in enumerate(health.checks):
        if check.action is None and check.name not in known:
            has = ", ".join(sorted(known)[:8])
            return f"spec.health.checks[{number}]: the runbook has no check {check.name!r}; it has {has}"
        if check.action is not None and check.name in known:
            return (
                f"spec.health.checks[{number}]: {check.name!r} is a check of the runbook: drop the action, or rename it"
            )
    own = tuple(
        Check(name=check.name, action=check.action, inputs=check.inputs, findings=check.findings)
        for check in health.checks
        if check.action is not None
    )
    steps = (
        Step(name="health", title="Health", expected_by=health.interval, checks=own),
        *(step.model_copy(update={"fixes": ()}) for step in runbook.steps),
    )
    recovery = Recovery(checks=tuple(check.name for check in health.checks))
    whole = runbook.model_copy(update={"steps": steps, "recovery": recovery, "impact": None, "closeout": None})
    problems = validate(whole, catalogue)
    if problems:
        return f"{problems[0].field.replace('spec.steps[0]', 'spec.health (own checks)')}: {problems[0].message}"
    graph = dependencies(whole)
    needed = needed_by([check.name for check in health.checks], graph)
    order = TopologicalSorter({name: graph[name] for name in needed}).static_order()
    checks = {check.name: check for check in whole.checks}
    return HealthPlan(runbook=whole, dependencies=graph, asked=tuple(checks[name] for name in order))
