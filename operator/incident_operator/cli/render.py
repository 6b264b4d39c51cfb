"""A run on a terminal: pure functions from api models to styled lines, so that tests read them as text.

Every function returns `rich.text.Text` lines; `.plain` is what a pipe would see. Nothing here knows the terminal
but `screen`, which fits the story into a height: what matters now stays, the timeline and passed checks give way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from rich.text import Text

from ..api.plan import RemediationPlan
from ..api.run import CheckState, FixState, IncidentRun, StepStatus
from ..api.runbook import FindingKind
from .changes import Scene, is_watch
from .documents import diff
from .glossary import commands, ending_of
from .look import Look, line, signed
from .people_view import agreement, blockers, decisions, held
from .text import clean, clock, length, some, until

_SETTLED_FIX = {FixState.PENDING, FixState.NOT_NEEDED, FixState.NOT_APPLICABLE}
_PHASE_STYLE = {
    "Resolved": "bold green",
    "NothingFound": "bold yellow",
    "Unresolved": "bold red",
    "Failed": "bold red",
    "Expired": "bold yellow",
    "Cancelled": "bold yellow",
}
_SEVERITY_STYLE = {"P0": "bold white on red", "P1": "bold red", "P2": "yellow", "P3": "cyan"}


def screen(scene: Scene, now: datetime, *, look: Look | None = None, size: tuple[int, int] | None = None) -> list[Text]:
    """Return the whole story, cut to a terminal's width and height in characters if they are given."""
    look = look or Look()
    if scene.run is None:
        return [line(("waiting for the run to be created", "dim"))]
    if size is None:
        return list(_screen(scene.run, scene.plans, now, look))
    brief = replace(look, timeline=4, all_is_well=False, diff_lines=3)
    whole = list(_screen(scene.run, scene.plans, now, look))
    shorter = list(_screen(scene.run, scene.plans, now, replace(look, timeline=4)))
    head = _head(scene, now, look)
    cut = [
        _cut(text) if number >= head else text
        for number, text in enumerate(_screen(scene.run, scene.plans, now, brief))
    ]
    for lines in (whole, shorter, cut):
        if sum(_rows(text, size[0]) for text in lines) <= size[1]:
            return lines
    return [*_fitting(cut, size), line((f"… more: kubectl describe irun {scene.run.metadata.name}", "dim"))]


def _head(scene: Scene, now: datetime, look: Look) -> int:
    """Return how many lines are never cut: the header, and what a person is asked."""
    assert scene.run is not None  # noqa: S101  (the caller has it)
    asked = list(decisions(scene.run, scene.plans, now, look))
    above = list(header(scene.run, now, asked=tuple(text.plain for text in asked)))
    return len(above) + (len(asked) + 1 if asked else 0)


def _cut(text: Text) -> Text:
    """Return a line that takes one row, however narrow the terminal."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _rows(text: Text, width: int) -> int:
    """Return how many rows of a terminal a line takes."""
    return 1 if text.no_wrap else max(1, -(-text.cell_len // width))


def _fitting(lines: Sequence[Text], size: tuple[int, int]) -> Iterator[Text]:
    """Yield the first lines that leave one row free."""
    left = size[1] - 1
    for text in lines:
        left -= _rows(text, size[0])
        if left < 0:
            return
        yield text


def _screen(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime, look: Look) -> Iterator[Text]:
    asked = list(decisions(run, plans, now, look))
    yield from header(run, now, asked=tuple(text.plain for text in asked))
    for title, block in (
        ("Decide", asked),
        ("Steps", list(steps(run, look))),
        ("Findings", list(findings(run, look))),
        ("Plans", [text for plan in plans for text in plan_summary(plan, look)]),
        ("Recovery", list(recovery(run, now, look))),
        ("Timeline", list(timeline(run, look.timeline))),
    ):
        if block:
            yield line((title, "bold"))
            yield from block


def header(run: IncidentRun, now: datetime, *, asked: Sequence[str] = ()) -> Iterator[Text]:
    """Yield who and what this is about, what happens now and what a person can type.

    Shape: `asked` are the lines of the decisions that are shown below: what they say to type is not said twice.
    """
    incident, status = run.spec.incident, run.status
    title: list[str | tuple[str, str]] = []
    if incident.ticket:
        title += [(clean(incident.ticket), "bold"), "  "]
    title += [(str(incident.severity), _SEVERITY_STYLE[incident.severity]), "  ", (clean(incident.title or ""), "bold")]
    yield line(*title)
    end = status.finished_at or now
    took = f" {'after' if status.finished_at else 'for'} {length(end - status.started_at)}" if status.started_at else ""
    drill = (" · drill", "yellow") if run.spec.drill else ""
    yield line(
        (str(status.phase), _PHASE_STYLE.get(status.phase, "bold cyan")),
        f"{took} · {run.metadata.namespace}/{run.metadata.name} · runbook {clean(run.spec.runbook_ref.name)}",
        drill,
    )
    doing = status.now
    if doing is not None and status.finished_at is None:
        yield line(("now    ", "dim"), clean(doing.doing))
        if doing.waiting_for:
            to = f" until {until(doing.until, now)}" if doing.until else ""
            yield line(("waits  ", "dim"), f"for {clean(doing.waiting_for)}{to}")
        if doing.because:
            yield line(("why    ", "dim"), clean(doing.because))
    if status.root_cause:
        kind = "probable" if status.root_cause.probable else "confirmed"
        yield line(("cause  ", "dim"), f"{clean(status.root_cause.summary)} ({kind})")
    if status.impact:
        yield line(("impact ", "dim"), clean(status.impact.summary))
    yield from held(run)
    if status.finished_at is None:
        yield from (
            line(("type   ", "dim"), (clean(command), "cyan"))
            for command in commands(run)
            if not is_watch(command) and not any(command in text for text in asked)
        )


def steps(run: IncidentRun, look: Look) -> Iterator[Text]:
    """Yield the document's steps with their checks and fixes."""
    for number, step in enumerate(run.status.steps, 1):
        yield line(signed(_state_of(step), look), f" {number} {clean(step.title)}", (_by(step), "dim"), indent=1)
        for check in step.checks:
            if check.state == CheckState.PASSED and not look.all_is_well:
                continue
            # What a Failed check found stands among the findings.
            message = check.message if check.state != CheckState.FAILED else ""
            yield _item(check.name, str(check.state), check.reason, message, look)
        for fix in step.fixes:
            if fix.state in _SETTLED_FIX and not look.all_is_well and fix.state != FixState.NOT_APPLICABLE:
                continue
            yield _item(f"fix {fix.name}", str(fix.state), fix.reason, fix.message, look)


def _state_of(step: StepStatus) -> str:
    """Return the one state that says most about a step: trouble, then work, then done."""
    checks = [str(check.state) for check in step.checks]
    fixes = [str(fix.state) for fix in step.fixes]
    for state in ("Applying", "Verifying", "Reverting", "Running"):
        if state in (*checks, *fixes):
            return state
    for state in ("Failed", "Error", "Inconclusive", "Pending"):
        if state in checks:
            return state
    return "Passed" if checks else (fixes[0] if fixes else "Pending")


def _by(step: StepStatus) -> str:
    return f"  by {clock(step.expected_by)}" if step.expected_by else ""


def _item(name: str, state: str, reason: str | None, message: str, look: Look) -> Text:
    sign, style = signed(state, look)
    detail = ": ".join(clean(part) for part in (reason, message) if part)
    return line((sign, style), f" {name} ", (state, style), (f"  {detail}" if detail else "", "dim"), indent=4)


def findings(run: IncidentRun, look: Look) -> Iterator[Text]:
    """Yield problems, root causes first, then what else was seen."""
    ranked = sorted(run.status.findings, key=lambda f: (f.kind != FindingKind.PROBLEM, not f.root_cause))
    for finding in ranked:
        if finding.kind != FindingKind.PROBLEM and not look.all_is_well:
            continue
        sign = signed("Failed", look) if finding.kind == FindingKind.PROBLEM else signed("Pending", look)
        actor = f" by {clean(finding.actor)}" if finding.actor and finding.actor not in finding.message else ""
        cause = (" (root cause)", "bold") if finding.root_cause else ""
        yield line(sign, " ", (clean(finding.reason), "bold"), f"  {clean(finding.message)}{actor}", cause, indent=1)


def plan_summary(plan: RemediationPlan, look: Look) -> Iterator[Text]:
    """Yield a plan in short: title, state, risk, what changes, how far its calls are."""
    spec, status = plan.spec, plan.status
    sign, style = signed(status.state, look)
    yield line(
        (sign, style), f" {clean(spec.title)}  ", (str(status.state), style), (f"  risk {spec.risk}", "dim"), indent=1
    )
    changed = [text for change in spec.diff for text in diff(change, indent=5, context=0)]
    yield from changed[: look.diff_lines]
    if len(changed) > look.diff_lines:
        more = some(len(changed) - look.diff_lines, "more line")
        yield line((f"and {more}: kubectl incident plan", "dim"), indent=5)
    for index, call in enumerate(spec.calls):
        entries = [e for e in status.calls if e.phase == "Apply" and e.index == index]
        state = str(entries[-1].state) if entries else "Pending"
        error = f"  {clean(entries[-1].error)}" if entries and entries[-1].error else ""
        title = clean(call.summary or f"{call.service} {call.operation}")
        yield line(signed(state, look), f" {index + 1}/{len(spec.calls)} {title}", (error, "red"), indent=5)
    if status.message and status.state not in ("Proposed", "Applying"):
        yield line((clean(status.message), "dim"), indent=5)
    yield from (line(("agreed ", "dim"), agreement(approval), indent=5) for approval in status.approvals)
    for label, text in blockers(plan) if not status.settled else ():
        shown = (clean(text), "cyan") if label == "type" else clean(text)
        yield line(signed("Blocked", look) if label == "blocked" else "", " ", shown, indent=5)


def recovery(run: IncidentRun, now: datetime, look: Look) -> Iterator[Text]:
    """Yield the stability clock."""
    clock_ = run.status.recovery
    if clock_ is None or clock_.last_checked_at is None:
        return
    state = {"Passing": "Passed", "Failing": "Failed"}.get(clock_.state, "Inconclusive")
    words: list[str] = [clock_.state]
    if clock_.passing_since:
        words.append(f"since {clock(clock_.passing_since)}, {some(clock_.samples, 'sample')}")
    doing = run.status.now
    if doing is not None and doing.waiting_for == "stability" and doing.until and run.status.finished_at is None:
        words.append(f"stable at {until(doing.until, now)}")
    yield line(signed(state, look), " " + ", ".join(words), indent=1)


def timeline(run: IncidentRun, last: int) -> Iterator[Text]:
    """Yield the newest turns of the story."""
    entries = run.status.timeline
    if len(entries) > last:
        yield line((f"{some(len(entries) - last, 'earlier turn')}", "dim"), indent=1)
    for entry in entries[-last:]:
        yield line((clock(entry.at), "dim"), f"  {clean(entry.reason)}: {clean(entry.message)}", indent=1)


def summary(run: IncidentRun, plans: Sequence[RemediationPlan]) -> Iterator[Text]:
    """Yield how it ended, what that means, what was changed and what to type next."""
    status = run.status
    took = (
        f" after {length(status.finished_at - status.started_at)}" if status.finished_at and status.started_at else ""
    )
    style = _PHASE_STYLE.get(status.phase, "bold")
    yield line((f"{status.phase}/{clean(status.outcome or 'Unknown')}", style), took)
    yield line(ending_of(run).meaning, indent=2)
    said = status.now.doing.removeprefix(f"{status.phase}: ") if status.now else ""
    if said:
        yield line(clean(said), indent=2)
    if status.root_cause:
        kind = "probable cause" if status.root_cause.probable else "cause"
        yield line((f"{kind}: ", "dim"), clean(status.root_cause.summary), indent=2)
    if status.impact:
        yield line(("impact: ", "dim"), clean(status.impact.summary), indent=2)
    for plan in plans:
        if plan.status.calls:
            undo = plan.spec.irreversible and f"can't be undone: {clean(plan.spec.irreversible)}"
            done = f"{clean(plan.spec.title)}: {plan.status.state}" + (f" ({undo})" if undo else "")
            yield line(("changed: ", "dim"), done, indent=2)
    if not any(plan.status.calls for plan in plans):
        yield line(("changed: ", "dim"), "nothing", indent=2)
    for command in commands(run):
        yield line(("type: ", "dim"), (clean(command), "cyan"), indent=2)
