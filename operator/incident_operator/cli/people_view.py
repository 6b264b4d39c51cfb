"""What people are asked, what they said, and what they can type: the part of a page that is about people. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from ..api.intervention import Intervention
from ..api.plan import Approval, CallState, GateVerdict, PlanState, RemediationPlan
from ..api.run import IncidentRun, RunPhase
from ..api.runbook import Knowledge
from .glossary import GATES
from .look import Look, line, signed
from .text import clean, clock, some, until

_COUNTED = (PlanState.HELPED, PlanState.NO_EFFECT, PlanState.WORSE)
_LABEL = 9


def waiting(plans: Sequence[RemediationPlan]) -> list[RemediationPlan]:
    """Return the plans about which a person can still decide."""
    return [p for p in plans if p.status.state == PlanState.PROPOSED and not p.status.settled]


def applied(plans: Sequence[RemediationPlan]) -> list[RemediationPlan]:
    """Return the plans of which something may be in place: a call was made, and nothing put it back."""
    sent = {CallState.SUCCEEDED, CallState.OBSERVED, CallState.INTENDED, CallState.UNKNOWN}
    return [
        p
        for p in plans
        if p.status.state != PlanState.REVERTED and any(e.phase == "Apply" and e.state in sent for e in p.status.calls)
    ]


def typed(word: str, plan: RemediationPlan, *more: str) -> str:
    """Return the command that says a word about a plan."""
    parts = ["kubectl incident", word, "-n", plan.metadata.namespace or "default"]
    return " ".join([*parts, plan.spec.run_ref.name, plan.spec.fix, *more])


def ways_past(plan: RemediationPlan, gate: GateVerdict) -> str:
    """Return what a person can type about a gate; empty where no word of theirs lifts it."""
    if gate.name == "ApprovalMissing":
        return typed("approve", plan)
    if gate.hard:
        return ""
    others = [f"--override {g.name}" for g in plan.status.gates if not g.hard]
    return typed("approve", plan, *others, "--reason '...'")


def blockers(plan: RemediationPlan) -> Iterator[tuple[str, str]]:
    """Yield label and text of each gate that blocks, and what to type about it."""
    said: set[str] = set()
    for gate in plan.status.gates:
        yield "blocked", f"{gate.name}: {gate.message or GATES.get(gate.name, '')}"
        if gate.name != "ApprovalMissing" and gate.hard:
            yield "", "no approval lifts it" + (f": {GATES[gate.name]}" if gate.message and gate.name in GATES else "")
    for gate in plan.status.gates:
        command = ways_past(plan, gate)
        # One approval names every soft gate at once.
        if command and not (gate.name == "ApprovalMissing" and any(not g.hard for g in plan.status.gates)):
            said.add(command)
    yield from (("type", command) for command in sorted(said))


def agreement(approval: Approval) -> str:
    """Return one approval as a sentence: who, when, with what powers, why, and until when it holds."""
    parts = [f"{clean(approval.responder)} at {clock(approval.at)}, tier {approval.tier}"]
    if approval.override:
        parts.append(f"overrides {', '.join(approval.override)}")
    if approval.break_glass:
        parts.append("break glass")
    parts.append(f"holds until {clock(approval.expires_at)}")
    return ", ".join(parts) + (f": {clean(approval.reason)}" if approval.reason else "")


def word_of(word: Intervention) -> str:
    """Return one intervention as a sentence: who said what, why, and what came of it."""
    spec, at = word.spec, word.metadata.creation_timestamp
    when = f" at {clock(at)}" if at else ""
    why = f": {clean(spec.reason)}" if spec.reason else ""
    effective = next((c for c in word.status.conditions if c.type == "Effective"), None)
    answer = "not answered yet"
    if effective is not None:
        count = "counts" if effective.status == "True" else "does not count"
        message = f": {clean(effective.message)}" if effective.message else ""
        answer = f"{count}, {clean(effective.reason)}{message}"
    return f"{clean(spec.responder)} {spec.verb}{when}{why} ({answer})"


def record(plan: RemediationPlan, others: Sequence[RemediationPlan], knowledge: Knowledge | None) -> list[str]:
    """Return how the procedure, and this fix in other runs, fared before.

    Shape: `others` are the namespace's plans, this one may be among them; only those of other runs count.
    """
    lines = []
    if knowledge is not None and knowledge.incidents is not None:
        rate = f", {knowledge.success_rate:.0%} resolved by it" if knowledge.success_rate is not None else ""
        source = f" ({clean(knowledge.source)})" if knowledge.source else ""
        lines.append(f"the runbook: {some(knowledge.incidents, 'incident')}{rate}{source}")
    ended = Counter(
        str(p.status.state)
        for p in others
        if p.spec.fix == plan.spec.fix
        and p.spec.action == plan.spec.action
        and p.spec.run_ref.uid != plan.spec.run_ref.uid
        and p.status.state in _COUNTED
    )
    counts = ", ".join(f"{ended[state]} {state}" for state in map(str, _COUNTED) if ended[state])
    lines.append(f"this fix in other runs here: {counts or 'none has ended yet'}")
    return lines


def held(run: IncidentRun) -> Iterator[Text]:
    """Yield that a person has paused the run or is ending it, and how to go on."""
    status, name = run.status, f"-n {run.metadata.namespace} {run.metadata.name}"
    if status.finished_at is not None:
        return
    if status.cancelling is not None:
        by = status.cancelling
        then = "what is in place stays" if by.then == "Leave" else "what is in place is put back"
        why = f": {clean(by.reason)}" if by.reason else ""
        yield line(("ends   ", "bold yellow"), f"cancelled by {clean(by.by)} at {clock(by.at)}, {then}{why}")
    elif status.paused is not None:
        why = f": {clean(status.paused.reason)}" if status.paused.reason else ""
        yield line(("paused ", "bold yellow"), f"by {clean(status.paused.by)} at {clock(status.paused.at)}{why}")
        yield line(("type   ", "dim"), (f"kubectl incident resume {name}", "cyan"))


def decisions(run: IncidentRun, plans: Sequence[RemediationPlan], now: datetime, look: Look) -> Iterator[Text]:
    """Yield what a run that waits for people waits for: per plan what it is, what blocks, and what to type."""
    open_ = waiting(plans) if run.status.phase == RunPhase.AWAITING_APPROVAL else []
    if not open_:
        return
    doing = run.status.now
    end = f"; without an answer it ends at {until(doing.until, now)}" if doing and doing.until else ""
    yield line((f"nothing is changed until a person decides{end}", "yellow"), indent=1)
    for plan in open_:
        spec = plan.spec
        risk = ", ".join([f"risk {spec.risk}", *map(str, spec.hazards), f"tier {spec.tier}"])
        yield line(signed("Blocked", look), f" {spec.fix}  ", (clean(spec.title), "bold"), f"  ({risk})", indent=1)
        rows = [row for row in blockers(plan) if row[0] != "type"]
        rows += [("agreed", agreement(approval)) for approval in plan.status.approvals]
        for label, text in rows:
            yield line((f"{label:<{_LABEL}}", "dim"), clean(text), indent=5)
        # A plan without gates in its status has not been looked at yet, or waits for its turn: a word counts anyway.
        yes = [text for label, text in blockers(plan) if label == "type"] or [typed("approve", plan)]
        for label, command in (
            ("read", typed("plan", plan)),
            *(("yes", text) for text in yes if not _only_hard(plan)),
            ("no", typed("reject", plan, "--reason '...'")),
        ):
            yield line((f"{label:<{_LABEL}}", "dim"), (command, "cyan"), indent=5)


def _only_hard(plan: RemediationPlan) -> bool:
    """Tell whether everything that blocks is beyond an approval."""
    gates = plan.status.gates
    return bool(gates) and not any(ways_past(plan, gate) for gate in gates)
