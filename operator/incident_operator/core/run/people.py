"""People's words on a run: Pause, Resume, Retry, Skip, Cancel, Note; and Keep on a plan of it that has settled."""

from datetime import datetime
from typing import Any

from ...api.intervention import Intervention, Then, Verb
from ...api.plan import PlanState
from ...api.run import Cancelling, IncidentRunStatus, Now, Paused, RunPhase
from ..approval import Answer, agreed, refused, said_at
from ..redact import redact
from ..story import Tell, told, within_bounds
from .view import EndRound, RunDecision, RunEffect, RunView, command, stopped

#: Phases in which a run waits, so that what people say is a reason to look again.
_WAITING = frozenset({RunPhase.AWAITING_APPROVAL, RunPhase.VERIFYING})


def hear(view: RunView, now: datetime) -> RunDecision | None:
    """Take in what people said, oldest first; None where nobody said anything that can be heard now.

    What is said is stored before it is answered: said again after a crash, it is found in the timeline.
    """
    status, answers, effects = view.run.status, list[Answer](), list[RunEffect]()
    for word in view.words:
        if view.admission is not None and not _is_safe(word):
            continue  # it counts once it is proven that its author was checked
        if any(entry.source == _source(word) for entry in status.timeline):
            answers.append(agreed(word))
            continue
        void = _void(view, word)
        if void is not None:
            answers.append(void)
            continue
        status = _heard(view, status, word, now)
        answers.append(agreed(word))
        effects.append(Tell(answers[-1].reason, status.timeline[-1].message))
    if not answers:
        return None
    if status.active_plan is None and status.phase == RunPhase.DIAGNOSING and status != view.run.status:
        effects.append(EndRound())
    return RunDecision(status=within_bounds(status), effects=(*effects, *answers), wake_at=now)


def _is_safe(word: Intervention) -> bool:
    """Tell whether heeding a forged word could change nothing: it only stops."""
    return word.spec.verb == Verb.PAUSE or (word.spec.verb == Verb.CANCEL and word.spec.then == Then.LEAVE)


def _source(word: Intervention) -> str:
    return f"intervention {word.metadata.name}"[:256]


def _void(view: RunView, word: Intervention) -> Answer | None:
    """Return why a word does not count; None where it does."""
    spec, run = word.spec, view.run
    if spec.target.kind == "IncidentRun" and spec.target.uid != run.metadata.uid:
        return refused(word, "WrongUID", f"{run.metadata.name} is another run of that name now")
    if spec.verb in (Verb.RETRY, Verb.SKIP):
        known = [fix.name for fix in view.runbook.fixes] if view.runbook is not None else []
        if spec.fix not in known:
            return refused(word, "NoSuchFix", f"the runbook has no fix {spec.fix!r}; it has {', '.join(known)}")
    if spec.verb == Verb.RESUME and run.status.paused is None:
        return refused(word, "NotPaused", "the run is not paused")
    if spec.verb == Verb.KEEP:
        plan = next((p for p in view.plans if p.metadata.uid == spec.target.uid), None)
        if plan is None:
            return refused(word, "WrongUID", f"{spec.target.name} is another plan of that name now")
        if plan not in stopped(view):
            return refused(word, "NothingToKeep", f"the plan is {plan.status.state}: it stops nothing")
    return None


def _heard(view: RunView, status: IncidentRunStatus, word: Intervention, now: datetime) -> IncidentRunStatus:
    spec, said = word.spec, said_at(word)
    why = redact(spec.reason or "")
    changes: dict[str, Any] = {}
    text = f"{spec.responder}: {spec.verb}"
    match spec.verb:
        case Verb.PAUSE:
            changes["paused"] = Paused(by=spec.responder, at=said, reason=why)
            text = f"{spec.responder} paused the run: nothing is changed until somebody says Resume"
            changes["now"] = Now(
                doing="paused: users are watched, nothing is changed",
                waiting_for="resume",
                because=text,
                next=(command(view.run, "resume"), command(view.run, "watch")),
            )
        case Verb.RESUME:
            changes["paused"] = None
            text = f"{spec.responder} lets the run go on"
            changes["now"] = Now(doing="going on", next=(command(view.run, "watch"),))
        case Verb.CANCEL:
            then = "Revert" if spec.then == Then.REVERT else "Leave"
            changes["cancelling"] = Cancelling(by=spec.responder, at=said, then=then, reason=why)
            text = f"{spec.responder} cancels the run; a plan under way is {'put back' if then == 'Revert' else 'left'}"
        case Verb.SKIP | Verb.RETRY if spec.fix is not None:
            skipped = [fix for fix in status.skipped if fix != spec.fix]
            changes["skipped"] = (*skipped, spec.fix) if spec.verb == Verb.SKIP else tuple(skipped)
            changes["waived"] = _waived(view, status, [p.metadata.name for p in view.plans if p.spec.fix == spec.fix])
            done = "leaves out" if spec.verb == Verb.SKIP else "wants to try again"
            text = f"{spec.responder} {done} {spec.fix}"
        case Verb.KEEP:
            changes["waived"] = _waived(view, status, [spec.target.name])
            text = f"{spec.responder} keeps what {spec.target.name} changed"
        case Verb.NOTE:
            text = f"{spec.responder}: {why}"
    if why and spec.verb != Verb.NOTE:
        text += f": {why}"
    looks_again = spec.verb in (Verb.RESUME, Verb.SKIP, Verb.RETRY, Verb.KEEP) and status.diagnosed_at is not None
    if looks_again and status.phase in _WAITING and status.active_plan is None:
        changes["phase"] = RunPhase.DIAGNOSING
    reason = agreed(word).reason
    changes["timeline"] = told(status.timeline, now, reason, text, _source(word))
    return status.model_copy(update=changes)


def _waived(view: RunView, status: IncidentRunStatus, names: list[str]) -> tuple[str, ...]:
    ended = {p.metadata.name for p in view.plans if p.status.settled or p.status.state == PlanState.PROPOSED}
    return tuple(dict.fromkeys((*status.waived, *(name for name in names if name in ended))))[-64:]
