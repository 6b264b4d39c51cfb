"""Writes docs/runbooks/ from manifests/runbooks/, for people who read rather than apply: `make docs`."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import yaml

from incident_operator.actions.catalogue import catalogue, fix_action
from incident_operator.api.meta import format_duration
from incident_operator.api.runbook import Check, ClusterRunbook, Fix, HistoricalIncident, Parameter, RunbookSpec, Step
from incident_operator.core.run.recovery import RECOVERY_WITHIN, STABLE_FOR, STABLE_FOR_SEVERE
from tests.repo.action_pages import link
from tests.repo.files import ROOT

SOURCES = ROOT / "manifests" / "runbooks"
PAGES = ROOT / "docs" / "runbooks"
#: Inputs without which a check can't have the finding: a metric without a threshold is only read.
_ONLY_WITH = {"ThresholdBreached": "threshold", "BaselineBreached": "baselineTolerance", "MetricStale": "staleAfter"}


def runbooks() -> dict[str, RunbookSpec]:
    """Return the shipped runbooks by name."""
    found = {}
    for path in sorted(SOURCES.glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        if document.get("kind") == "ClusterRunbook":
            found[path.stem] = ClusterRunbook.model_validate(document).spec
    return found


def page(name: str, runbook: RunbookSpec) -> str:
    """Return a runbook's page."""
    return "\n".join(_lines(name, runbook)).rstrip() + "\n"


def _lines(name: str, runbook: RunbookSpec) -> Iterator[str]:
    yield f"# {runbook.title}\n"
    yield f"Written from `manifests/runbooks/{name}.yaml` (`make docs`); a test fails when the two differ.\n"
    if runbook.knowledge and runbook.knowledge.source:
        yield f"Source: {runbook.knowledge.source}.\n"
    if runbook.pattern:
        yield f"## Pattern: {runbook.pattern}\n"
    if runbook.description:
        yield f"{runbook.description}\n"
    if runbook.knowledge and runbook.knowledge.notes:
        yield from _list("Historical Context", runbook.knowledge.notes)
    if runbook.symptoms:
        yield from _list("Common Symptoms", runbook.symptoms)
    if runbook.history:
        yield "### Incident Examples from History\n"
        for incident in runbook.history:
            yield from _incident(incident)
    yield "### Standard Resolution Playbook\n"
    given = {parameter.name for parameter in runbook.parameters}
    since = timedelta()
    for number, step in enumerate(runbook.steps, 1):
        yield from _step(number, step, since, given)
        since = step.expected_by
    yield from _recovery(runbook)
    if runbook.closeout:
        checks = {check.name: check for check in runbook.every_check}
        yield "### An hour later\n"
        yield "The operator asks once more, and what does not pass is a person's to look at:\n"
        for name in (*runbook.closeout.alarms, *runbook.closeout.watch_also):
            yield f"- {_named(checks[name])}"
        yield ""
    yield "### Parameters\n"
    yield "| parameter | type | needed | default | what it is |"
    yield "|---|---|---|---|---|"
    yield from (_parameter(parameter) for parameter in runbook.parameters)


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"### {title}\n"
    yield from (f"- {_prose(line)}" for line in lines)
    yield ""


def _prose(text: str) -> str:
    """Return a text in which Markdown finds no tag."""
    return text.replace("<", "\\<").rstrip(".")


def _incident(incident: HistoricalIncident) -> Iterator[str]:
    yield f"**Ticket #{incident.ticket}**: {incident.title or ''}\n"
    facts = {
        "Root Cause": incident.root_cause,
        "Resolution": incident.resolution,
        "Prevention": incident.prevention,
        "Impact": incident.impact,
        "Resolution Time": _minutes(incident.resolution_time) if incident.resolution_time else None,
    }
    told = [f"- **{fact}**: {_prose(text)}" for fact, text in facts.items() if text]
    yield from (*told, "") if told else ()


def _minutes(time: timedelta) -> str:
    return f"{time // timedelta(minutes=1)} minutes"


def _step(number: int, step: Step, since: timedelta, given: set[str]) -> Iterator[str]:
    first, last = (at // timedelta(minutes=1) for at in (since, step.expected_by))
    yield f"#### Step {number}: {step.title} ({first}-{last} minutes)\n"
    yield from (line for check in step.checks for line in _check(check, given))
    yield from (line for fix in step.fixes for line in _fix(fix))
    yield ""


def _named(check: Check) -> str:
    """Return a check's name, what it asks and by which action."""
    return f"**{check.name}**: {check.title or catalogue()[check.action].title.rstrip('.')} ({_link(check.action)})"


def _link(action: str) -> str:
    return f"[{action}](../actions/{link(action)})"


def _check(check: Check, given: set[str]) -> Iterator[str]:
    yield f"- Check {_named(check)}"
    for rule in check.findings:
        yield f"  - finds `{rule.reason}`: {_prose(rule.message)}"
    inputs = {*check.inputs, *given}
    found = sorted(
        reason for reason in catalogue()[check.action].reasons if _ONLY_WITH.get(reason, "") in {"", *inputs}
    )
    if found:
        yield f"  - finds {_codes(found)}"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _fix(fix: Fix) -> Iterator[str]:
    action = fix_action(fix.action)
    yield f"- Fix **{fix.name}**: {fix.title or action.title.rstrip('.')} ({_link(fix.action)})"
    if fix.on_findings:
        yield f"  - for {_codes(fix.on_findings)}"
    if fix.when:
        yield f"  - only when `{' '.join(fix.when.split())}`"
    yield f"  - risk: {_prose(action.risk)}"
    if fix.temporary:
        then = "people are told" if fix.temporary.on_expiry == "Flag" else "it is undone if nobody changed it since"
        yield f"  - for {format_duration(fix.temporary.review_after)}, then {then}"
    if fix.follow_up:
        due = f", within {format_duration(fix.follow_up.due_in)}" if fix.follow_up.due_in else ""
        owner = f", {fix.follow_up.owner}" if fix.follow_up.owner else ""
        yield f"  - afterwards: {_prose(fix.follow_up.text)} ({fix.follow_up.priority}{due}{owner})"


def _recovery(runbook: RunbookSpec) -> Iterator[str]:
    checks = {check.name: check for check in runbook.every_check}
    wanted = runbook.recovery.stable_for or STABLE_FOR
    severe = format_duration(max(wanted, STABLE_FOR_SEVERE))
    stable = format_duration(wanted) + (f" ({severe} on P0 and P1)" if wanted < STABLE_FOR_SEVERE else "")
    within = format_duration(runbook.recovery.within or RECOVERY_WITHIN)
    yield "### Users are well again when\n"
    yield f"All of these pass, and go on passing for {stable}. Until they pass, {within} are waited after a fix.\n"
    yield from (f"- {_named(checks[name])}" for name in runbook.recovery.checks)
    yield ""


def _parameter(parameter: Parameter) -> str:
    default = "" if parameter.default is None else f"`{json.dumps(parameter.default)}`"
    cells = (
        f"`{parameter.name}`",
        parameter.type,
        "yes" if parameter.required else "no",
        default,
        _prose(parameter.description or ""),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write(folder: Path = PAGES) -> None:
    """Write every page; one of a runbook that is gone is deleted."""
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.md": page(name, runbook) for name, runbook in runbooks().items()}
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write()
