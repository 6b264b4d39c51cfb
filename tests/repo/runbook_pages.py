"""Writes docs/runbooks/ from manifests/runbooks/, for people who read rather than apply: `make docs`."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import yaml

from incident_operator.actions.catalogue import catalogue, fix_action
from incident_operator.api.meta import format_duration
from incident_operator.api.runbook import Check, ClusterRunbook, Fix, HistoricalIncident, RunbookSpec, Step
from tests.repo.files import ROOT

SOURCES = ROOT / "manifests" / "runbooks"
PAGES = ROOT / "docs" / "runbooks"


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
    since = timedelta()
    for number, step in enumerate(runbook.steps, 1):
        yield from _step(number, step, since)
        since = step.expected_by
    yield from _list("Users are well again when", (f"`{check}` passes" for check in runbook.recovery.checks))
    if runbook.closeout:
        named = (*runbook.closeout.alarms, *runbook.closeout.watch_also)
        yield from _list("An hour later still", (f"`{check}` passes" for check in named))
    yield "### Parameters\n"
    yield "| parameter | type | needed | what it is |"
    yield "|---|---|---|---|"
    for parameter in runbook.parameters:
        needed = "yes" if parameter.required else "no"
        yield f"| {parameter.name} | {parameter.type} | {needed} | {parameter.description or ''} |".replace("  ", " ")


def _list(title: str, lines: "tuple[str, ...] | Iterator[str]") -> Iterator[str]:
    yield f"### {title}\n"
    yield from (f"- {line}" for line in lines)
    yield ""


def _incident(incident: HistoricalIncident) -> Iterator[str]:
    yield f"**Ticket #{incident.ticket}**: {incident.title or ''}\n"
    facts = {
        "Root Cause": incident.root_cause,
        "Resolution": incident.resolution,
        "Prevention": incident.prevention,
        "Impact": incident.impact,
        "Resolution Time": _minutes(incident.resolution_time) if incident.resolution_time else None,
    }
    yield from (f"- **{fact}**: {text}" for fact, text in facts.items() if text)
    yield ""


def _minutes(time: timedelta) -> str:
    return f"{time // timedelta(minutes=1)} minutes"


def _step(number: int, step: Step, since: timedelta) -> Iterator[str]:
    first, last = (at // timedelta(minutes=1) for at in (since, step.expected_by))
    yield f"#### Step {number}: {step.title} ({first}-{last} minutes)\n"
    yield from (_check(check) for check in step.checks)
    yield from (line for fix in step.fixes for line in _fix(fix))
    yield ""


def _check(check: Check) -> str:
    action = catalogue()[check.action]
    found = sorted({*action.reasons, *(rule.reason for rule in check.findings)})
    finds = f": {', '.join(found)}" if found else ""
    return f"- Check **{check.name}**, {check.title or action.title.rstrip('.')} (`{check.action}`){finds}"


def _fix(fix: Fix) -> Iterator[str]:
    action = fix_action(fix.action)
    yield (
        f"- Fix **{fix.name}**, {fix.title or action.title.rstrip('.')} (`{fix.action}`; {action.risk.rstrip('.')})"
        + (f" for {', '.join(fix.on_findings)}" if fix.on_findings else "")
    )
    if fix.when:
        yield f"  - only when `{' '.join(fix.when.split())}`"
    if fix.temporary:
        then = "people are told" if fix.temporary.on_expiry == "Flag" else "it is undone if nobody changed it since"
        yield f"  - for {format_duration(fix.temporary.review_after)}, then {then}"
    if fix.follow_up:
        yield f"  - afterwards: {fix.follow_up.text}"


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
