"""A plan on paper: everything a person needs to agree to it, or to do it by hand. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from ..api.meta import format_duration
from ..api.plan import Call, JournalEntry, RemediationPlan, Undo
from ..api.run import IncidentRun, IncidentRunStatus
from ..api.runbook import FindingKind, Fix
from .changes import age
from .documents import diff, document
from .glossary import ASKS, GATES, PLAN_REASONS, PLAN_STATES
from .look import Look, line, signed
from .people_view import agreement, blockers
from .text import clean, clock, command_line, until

_LABEL = 12


def chosen(plans: Sequence[RemediationPlan], *, name: str | None, every: bool) -> list[RemediationPlan]:
    """Return the plans asked for: one by its name or its fix, all, or the newest of each fix.

    Shape: oldest first. Empty if there is no such plan.
    """
    ordered = sorted(plans, key=age)
    if name is not None:
        return [p for p in ordered if p.metadata.name == name] or [p for p in ordered if p.spec.fix == name]
    if every:
        return ordered
    newest = {plan.spec.fix: plan.metadata.name for plan in ordered}
    return [plan for plan in ordered if newest[plan.spec.fix] == plan.metadata.name]


def why(fix: Fix | None, status: IncidentRunStatus) -> list[tuple[str, str]]:
    """Return reason and message of what a plan answers: the findings its fix names, else every problem.

    Shape: root causes first. What a fix has cured is no finding any more: then the timeline still tells it.
    """
    problems = sorted((f for f in status.findings if f.kind == FindingKind.PROBLEM), key=lambda f: not f.root_cause)
    if fix is None or not fix.on_findings:
        return [(f.reason, f.message) for f in problems]
    found = [(f.reason, f.message) for f in status.findings if f.reason in fix.on_findings]
    told = [(entry.reason, entry.message) for entry in status.timeline if entry.reason in fix.on_findings]
    return found or list(dict.fromkeys(told))


@dataclass(frozen=True, kw_only=True)
class People:
    """What people need besides the plan: how it fared before, and what was said about it. Shape: sentences."""

    record: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def plan_page(
    plan: RemediationPlan,
    run: IncidentRun | None,
    fix: Fix | None,
    now: datetime,
    *,
    look: Look | None = None,
    people: People | None = None,
) -> list[Text]:
    """Return the page of one plan.

    Shape: `fix` is the runbook's entry behind it, where it could be read; `run` the plan's run, where it still is.
    """
    people = people or People()
    look, spec, status = look or Look(), plan.spec, plan.status
    sign, style = signed(status.state, look)
    lines = [
        line((sign, style), " ", (clean(spec.title), "bold"), "  ", (str(status.state), style)),
        line((plan.metadata.name, "dim")),
    ]
    lines += _field("state", clean(status.message) or PLAN_STATES.get(status.state, ""))
    meaning = PLAN_REASONS.get(status.reason or "")
    if status.finished_at is not None and meaning:
        lines += _field("ended", f"{status.reason}: {meaning}")
    lines += _field("fix", f"{spec.fix} ({clean(spec.action)}), attempt {spec.attempt}, of run {spec.run_ref.name}")
    for reason, message in why(fix, run.status) if run is not None else ():
        lines += _field("because", f"{reason}: {message}")
    lines += list(_asks(plan, run))
    lines += _field("agreed", *(agreement(approval) for approval in status.approvals))
    lines += _field("said", *people.words)
    lines += _field("before", *people.record)
    lines += _field("risk", ", ".join([str(spec.risk), *map(str, spec.hazards)]) + f" (tier {spec.tier})")
    lines += _field("touches", *spec.touches)
    lines += _field("as", f"{clean(spec.role)} in {clean(spec.region)}")
    lines += list(_permission(plan))
    lines += _section("Changes", [text for change in spec.diff for text in diff(change, indent=4)])
    lines += _section("Calls", list(_calls(spec.calls, "Apply", status.calls, look)))
    lines += _section("Proof", _proof(plan, now))
    lines += _section("Undo", list(_undo(spec.undo, spec.irreversible, spec.revert_if_worse, status.calls, look)))
    return lines


def _field(label: str, *values: str) -> list[Text]:
    return [
        line((f"{label if number == 0 else '':<{_LABEL}}", "dim"), clean(value), indent=2)
        for number, value in enumerate(values)
        if value
    ]


def _section(title: str, lines: Sequence[Text]) -> list[Text]:
    return [line((title, "bold"), indent=2), *lines] if lines else []


def _asks(plan: RemediationPlan, run: IncidentRun | None) -> Iterator[Text]:
    """Yield why a machine does not apply this by itself."""
    for label, text in blockers(plan):
        yield from _field(label, text)
    if run is not None and not plan.status.gates:
        for fix in (f for step in run.status.steps for f in step.fixes):
            if fix.plan_ref == plan.metadata.name and fix.state == "Blocked" and fix.reason:
                yield from _field("blocked", f"{fix.reason}: {fix.message or GATES.get(fix.reason, '')}")
    for reason in plan.spec.ask_because:
        yield from _field("asks", f"{reason}: {ASKS.get(reason, 'a person must agree')}")


def _permission(plan: RemediationPlan) -> Iterator[Text]:
    permission = plan.spec.permission
    for label, names in (("denied", permission.denied), ("unknown", permission.unknown)):
        if names:
            yield from _field(label, ", ".join(names))
    if permission.allowed:
        yield from _field("allowed", ", ".join(permission.allowed))


def _calls(calls: Sequence[Call], phase: str, journal: Sequence[JournalEntry], look: Look) -> Iterator[Text]:
    for index, call in enumerate(calls):
        entries = [e for e in journal if e.phase == phase and e.index == index]
        state = str(entries[-1].state) if entries else "Pending"
        yield line(signed(state, look), f" {index + 1}. ", (command(call), "bold"), indent=4)
        if call.arguments:
            yield from (line(text, indent=9) for text in document(call.arguments))
        for volatile in call.volatile:
            source = f"{clean(volatile.read.service)} {clean(volatile.read.operation)} {clean(volatile.path)}"
            yield line((f"{volatile.argument}: read just before the call ({source})", "dim"), indent=9)
        repeat = f"{call.repeat}, at most {format_duration(call.timeout)}; needs {', '.join(call.permissions) or '-'}"
        yield line((clean(repeat), "dim"), indent=9)
        for entry in entries:
            yield line(*_entry(entry, look), indent=9)


def command(call: Call) -> str:
    """Return a call the way its command line names it: `aws iam create-policy-version`."""
    return command_line(call.service, call.operation.replace("_", "-"))


def _entry(entry: JournalEntry, look: Look) -> list[str | tuple[str, str]]:
    """Return what the journal says of a call."""
    sign, style = signed(entry.state, look)
    at = f" written down {clock(entry.intent_at)}" + (
        f", ended {clock(entry.finished_at)}" if entry.finished_at else ""
    )
    extra = [f"attempt {entry.attempt}"] if entry.attempt > 1 else []
    extra += [clean(entry.error)] if entry.error else []
    extra += [f"request {clean(entry.request_id)}"] if entry.request_id else []
    return [(f"{sign} {entry.state}", style), at, f" ({'; '.join(extra)})" if extra else ""]


def _proof(plan: RemediationPlan, now: datetime) -> list[Text]:
    verify = plan.spec.verify
    waits = (
        f"looked for after {format_duration(verify.wait)}, every {format_duration(verify.every)}, "
        f"at most {format_duration(verify.deadline)}"
    )
    lines = [line(clean(verify.signal), indent=4), line((waits, "dim"), indent=4)]
    if plan.status.verify_deadline is not None and plan.status.finished_at is None:
        lines.append(line(("until " + until(plan.status.verify_deadline, now), "dim"), indent=4))
    return lines


def _undo(
    undo: Undo | None, irreversible: str | None, automatic: bool, journal: Sequence[JournalEntry], look: Look
) -> Iterator[Text]:
    if undo is None:
        yield line(("can't be undone: ", "yellow"), clean(irreversible or ""), indent=4)
        return
    if automatic:
        yield line(("by itself, if it makes things worse", "dim"), indent=4)
    if undo.safe_when:
        yield line((f"safe when {clean(undo.safe_when)}", "dim"), indent=4)
    yield from _calls(undo.calls, "Undo", journal, look)
