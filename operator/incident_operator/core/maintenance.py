"""Maintenance of runbooks: whether one can be used, was tried lately, and is one that people still stand behind.

A *validation* is one look at a runbook: its text, and, with a *trial*, what its checks answer and its fixes would plan
now. A *review* is a contact's word in the runbook's own record. `decide_runbook` is the only writer of a runbook's
status, but for `with_update_due`, which others ask for. Instants stand in messages, never ages: a status that nothing
happened to is not written. Source: the document's maintenance section (quarterly, after major incidents, monthly).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from ..api.escalation import ContactKind, EscalationPolicySpec
from ..api.meta import Condition, Metadata, Severity, format_duration
from ..api.run import CheckState, CheckStatus, IncidentRun
from ..api.runbook import (
    Maintenance,
    PartReport,
    RunbookProblem,
    RunbookSpec,
    RunbookStatus,
    UpdateDue,
    UpdateReason,
    Validation,
    ValidationFinding,
    ValidationPart,
    ValidationResult,
)
from .conditions import with_condition
from .expressions import ExpressionError, expressions_in
from .policy import next_slot
from .redact import redact
from .schedule import Timing, earliest, latest
from .story import Tell

#: How old a validation may become, where the runbook does not say. Source: the document, "validate … monthly".
VALIDATE_EVERY = timedelta(days=30)
#: A new spec is validated within this; spread, for Git may bring a thousand at once. Scaled.
SPREAD = timedelta(minutes=10)
#: How soon it is tried again what failed or gave no answer. Scaled.
RETRY = timedelta(hours=1)
#: No runbook is validated more often than this, whatever it says. Scaled.
LEAST = timedelta(minutes=1)
#: A longer promise counts as this one: instants end, too.
MOST = timedelta(days=3650)
#: Findings, and updates that are due, which a status has room for.
MAX_FINDINGS, MAX_UPDATES = 32, 16
#: After incidents of these an owner looks at the runbook again. Source: the document, "after each major incident".
MAJOR = frozenset({Severity.P0, Severity.P1})
#: The field that a trial's own mistakes are named by.
TRIAL = "spec.maintenance.trial"


# --- reviews ----------------------------------------------------------------------------------------------------------


class Freshness(NamedTuple):
    """Whether people still stand behind a runbook. Shape: `until` is when the answer changes by itself, if it does."""

    fresh: bool | None
    reason: Literal["Reviewed", "NotDueYet", "ReviewOverdue", "NotScheduled", "Archived"]
    message: str
    reviewed_at: datetime | None = None
    until: datetime | None = None


def leaves_reviewers_open(maintenance: Maintenance | None) -> bool:
    """Tell whether a runbook is reviewed and names no reviewers of its own: then those on call are."""
    return maintenance is not None and maintenance.review_every is not None and not maintenance.reviewers


def on_call(policy: EscalationPolicySpec | None) -> tuple[str, ...]:
    """Return the on-call contacts of an EscalationPolicy; nobody without one."""
    return tuple(c.name for c in policy.contacts if c.kind == ContactKind.ON_CALL) if policy is not None else ()


def freshness(
    maintenance: Maintenance | None, installed_at: datetime, now: datetime, others: Sequence[str] = ()
) -> Freshness:
    """Tell whether each reviewer's newest review still holds; the first one is due `reviewEvery` after installation.

    Shape: `others` are the reviewers where the runbook names none: the on-call contacts. Where there are none either,
    anybody's review is enough. Source: the document, "review quarterly with all on-call engineers".

    A change of the spec is no review: the record is in the spec, and one contact's entry must not stand for the others.
    """
    if maintenance is not None and maintenance.archived is not None:
        return Freshness(False, "Archived", f"archived: {maintenance.archived.reason}")
    if maintenance is None or maintenance.review_every is None:
        return Freshness(
            None, "NotScheduled", "nobody says how often it is reviewed: maintenance.reviewEvery is left out"
        )
    every = min(maintenance.review_every, MOST)
    newest = _newest_reviews(maintenance, maintenance.reviewers or tuple(others), now)
    due = {who: (at or installed_at) + every for who, at in newest.items()}
    reviewed = [at for at in newest.values() if at is not None]
    whole = min(reviewed) if len(reviewed) == len(newest) else None
    overdue = [who for who in newest if now >= due[who]]
    until = earliest(*(at for at in due.values() if at > now))
    if overdue:
        told = ", ".join(_since(who, newest[who]) for who in overdue)
        return Freshness(
            False, "ReviewOverdue", f"a review holds {format_duration(every)}: {told}; {_how_to_review()}", whole, until
        )
    if whole is None:
        missing = ", ".join(who or "anybody" for who, at in newest.items() if at is None)
        message = (
            f"installed {installed_at:%Y-%m-%d}, no review yet by {missing}: due {min(due.values()):%Y-%m-%d %H:%M}Z"
        )
        return Freshness(True, "NotDueYet", message, None, until)
    return Freshness(
        True, "Reviewed", f"reviewed {whole:%Y-%m-%d}, next due {min(due.values()):%Y-%m-%d %H:%M}Z", whole, until
    )


def _newest_reviews(maintenance: Maintenance, reviewers: Sequence[str], now: datetime) -> dict[str, datetime | None]:
    """Return each reviewer's newest review, of those that are not ahead; "" stands for anybody."""
    said = [(review.by, review.at) for review in maintenance.reviews]
    if maintenance.reviewed_at is not None:
        said.append((maintenance.owner, maintenance.reviewed_at))
    said = [(by, at) for by, at in said if at <= now]
    if not reviewers:
        return {"": latest(at for _, at in said)}
    return {who: latest(at for by, at in said if by == who) for who in reviewers}


def _since(who: str, at: datetime | None) -> str:
    return f"{who or 'anybody'} reviewed it " + (f"{at:%Y-%m-%d}" if at is not None else "never")


def _how_to_review() -> str:
    return "add to maintenance.reviews who read it, when, and which revision"


# --- updates ----------------------------------------------------------------------------------------------------------


def calls_for_update(severity: Severity, *, drill: bool = False) -> bool:
    """Tell whether an incident of this severity, in which a runbook was used, makes an update of it due."""
    return severity in MAJOR and not drill


def used_in_major_incident(run: IncidentRun) -> bool:
    """Tell whether a run, which ends, used its runbook in a major incident: it began, and is no drill."""
    began = run.status.started_at is not None and run.status.runbook is not None
    return began and calls_for_update(run.status.severity or run.spec.incident.severity, drill=run.spec.drill)


def with_update_due(
    status: RunbookStatus, generation: int, reason: UpdateReason, about: str, now: datetime
) -> RunbookStatus:
    """Return the status with one more thing to learn from; told once for each `about`, the oldest are kept."""
    known = _open_updates(status.update_due, generation)
    if any((due.reason, due.about) == (reason, about) for due in known) or len(known) >= MAX_UPDATES:
        return status
    due = UpdateDue(reason=reason, since=now, about=about[:512], generation=generation)
    return status.model_copy(update={"update_due": (*known, due)})


def _open_updates(due: Iterable[UpdateDue], generation: int) -> tuple[UpdateDue, ...]:
    """Return those that no newer spec answered. A review is written into the spec, and answers them too."""
    return tuple(one for one in due if one.generation >= generation)


# --- reports ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FixTrial:
    """What became of a fix that was planned for a trial: a plan, or why there is none.

    Shape: `failed` tells that it could not be planned at all; a fix that has nothing to do now did not fail.
    """

    name: str
    planned: bool = False
    failed: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a trial came to.

    Shape: `problem` is why it could not begin (reason and message). `closing` are the checks of the close-out: without
    an incident no alarm could have rung, so that only an Error counts against the runbook. `permissions` of the grant's
    roles by simulation, in words; None where one can't be simulated.
    """

    namespace: str
    problem: tuple[str, str] | None = None
    checks: Sequence[CheckStatus] = ()
    closing: Sequence[CheckStatus] = ()
    fixes: Sequence[FixTrial] = ()
    permissions: Mapping[str, bool | None] = field(default_factory=dict)


def report(
    spec: RunbookSpec, problems: Sequence[RunbookProblem], tried: Tried | None, generation: int, now: datetime
) -> Validation:
    """Return what a validation came to; without a trial its last three parts are Unknown."""
    findings = [_of_problem(problem) for problem in problems]
    counts = {ValidationPart.EXPRESSIONS: _count_expressions(spec), ValidationPart.REFERENCES: _count_references(spec)}
    missing: dict[ValidationPart, str] = {}
    trial = (ValidationPart.PERMISSIONS, ValidationPart.CHECKS, ValidationPart.FIXES)
    if tried is None:
        missing = dict.fromkeys(trial, "not tried")
    elif tried.problem is not None:
        reason, message = tried.problem
        findings.append(_finding(ValidationPart.CHECKS, ValidationResult.FAILED, TRIAL, reason, message))
        missing = dict.fromkeys((ValidationPart.PERMISSIONS, ValidationPart.FIXES), "the trial could not begin")
    else:
        findings += _of_trial(tried)
        counts |= {
            ValidationPart.PERMISSIONS: len(tried.permissions),
            ValidationPart.CHECKS: len(tried.checks) + len(tried.closing),
            ValidationPart.FIXES: len(tried.fixes),
        }
    findings.sort(key=lambda one: one.result != ValidationResult.FAILED)
    parts = tuple(_part(part, findings, counts.get(part, 0), missing.get(part)) for part in ValidationPart)
    return Validation(
        at=now,
        generation=generation,
        namespace=tried.namespace if tried is not None else None,
        parts=parts,
        findings=tuple(findings[:MAX_FINDINGS]),
    )


def _of_problem(problem: RunbookProblem) -> ValidationFinding:
    part = ValidationPart.EXPRESSIONS if problem.line is not None else ValidationPart.REFERENCES
    return _finding(part, ValidationResult.FAILED, problem.field, "RunbookInvalid", problem.message)


def _of_trial(tried: Tried) -> Iterable[ValidationFinding]:
    failed, unknown = ValidationResult.FAILED, ValidationResult.UNKNOWN
    for permission, may in sorted(tried.permissions.items()):
        if may is False:
            message = "the role may not, by simulation"
            yield _finding(ValidationPart.PERMISSIONS, failed, permission, "PermissionMissing", message)
        elif may is None:
            message = "it could not be simulated"
            yield _finding(ValidationPart.PERMISSIONS, unknown, permission, "NotSimulated", message)
    for check in (*tried.checks, *tried.closing):
        if check.state == CheckState.ERROR:
            yield _finding(ValidationPart.CHECKS, failed, check.name, check.reason or "Error", check.message)
        elif check.state == CheckState.INCONCLUSIVE and check not in tried.closing:
            yield _finding(ValidationPart.CHECKS, unknown, check.name, check.reason or "Inconclusive", check.message)
    for fix in tried.fixes:
        if fix.failed:
            yield _finding(ValidationPart.FIXES, failed, fix.name, fix.reason, fix.message)


def _finding(part: ValidationPart, result: ValidationResult, name: str, reason: str, message: str) -> ValidationFinding:
    return ValidationFinding(part=part, result=result, name=name[:256], reason=reason, message=redact(message)[:300])


def _part(part: ValidationPart, findings: Sequence[ValidationFinding], count: int, missing: str | None) -> PartReport:
    mine = [one for one in findings if one.part == part]
    result = ValidationResult.UNKNOWN if missing is not None else ValidationResult.PASSED
    for one in mine:
        if one.result == ValidationResult.FAILED or result == ValidationResult.PASSED:
            result = one.result
    message = missing or "; ".join(f"{one.name}: {one.reason}" for one in mine)
    return PartReport(part=part, result=result, count=count, message=message[:300])


def _count_expressions(spec: RunbookSpec) -> int:
    """Return how many expressions there are; one that can't even be taken apart counts as one."""
    alone = sum(len(check.findings) for check in spec.every_check) + sum(fix.when is not None for fix in spec.fixes)
    alone += 2 * (spec.impact is not None) + 2 * (spec.impact is not None and spec.impact.estimate is not None)
    found = 0
    for inputs in (*(check.inputs for check in spec.every_check), *(fix.inputs for fix in spec.fixes)):
        try:
            found += len(tuple(expressions_in(inputs)))
        except ExpressionError:
            found += 1
    return alone + found


def _count_references(spec: RunbookSpec) -> int:
    """Return how many actions, reasons and checks are named."""
    named = len(spec.recovery.checks)
    if spec.closeout is not None:
        named += len(spec.closeout.alarms) + len(spec.closeout.watch_also)
    return len(spec.every_check) + sum(1 + len(fix.on_findings) for fix in spec.fixes) + named


class Verdict(NamedTuple):
    """A condition's status, reason and message."""

    status: bool | None
    reason: str
    message: str


_FAILED_REASON = {
    ValidationPart.SCHEMA: "RunbookInvalid",
    ValidationPart.EXPRESSIONS: "RunbookInvalid",
    ValidationPart.REFERENCES: "RunbookInvalid",
    ValidationPart.PERMISSIONS: "PermissionMissing",
    ValidationPart.CHECKS: "CheckError",
    ValidationPart.FIXES: "FixError",
}


def verdict(validation: Validation) -> Verdict:
    """Return what a report amounts to: whatever failed makes it False, whatever is not known makes it Unknown."""
    when = f"{validation.at:%Y-%m-%d %H:%M}Z"
    failed = [one for one in validation.findings if one.result == ValidationResult.FAILED]
    if failed:
        first = failed[0]
        reason = "TrialInvalid" if first.name.startswith(TRIAL) else _FAILED_REASON[first.part]
        more = f" (+{len(failed) - 1} more)" if failed[1:] else ""
        told = f"{first.part} {first.name}: {first.reason}" + (f": {first.message}" if first.message else "")
        return Verdict(False, reason, f"{when}: {told}{more}")
    unknown = [part for part in validation.parts if part.result == ValidationResult.UNKNOWN]
    if validation.namespace is None:
        covered = ", ".join(str(p.part) for p in validation.parts if p.result == ValidationResult.PASSED)
        left = ", ".join(str(part.part) for part in unknown)
        return Verdict(None, "NoTrial", f"{when}: {covered} hold; {left} not tried: write maintenance.trial")
    if unknown:
        told = "; ".join(f"{part.part}: {part.message}" for part in unknown)
        return Verdict(None, "NotCovered", f"{when}: nothing failed, and there is no answer of {told}")
    counts = ", ".join(f"{part.count} {str(part.part).lower()}" for part in validation.parts if part.count)
    return Verdict(True, "Validated", f"{when} in namespace {validation.namespace}: {counts}")


# --- the decision -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunbookView:
    """All that the decision may know.

    Shape: `since` is when this process first saw this generation. `mine`: whether the namespace of the trial is one of
    this operator's; else another operator validates it. `made` is a report that was just made. `others` are the
    reviewers where it names none.
    """

    metadata: Metadata
    spec: RunbookSpec
    status: RunbookStatus
    revision: str
    since: datetime
    problems: tuple[RunbookProblem, ...] = ()
    mine: bool = True
    busy: bool = False
    made: Validation | None = None
    others: tuple[str, ...] = ()
    timing: Timing = field(default_factory=Timing)

    @property
    def archived(self) -> bool:
        """Whether no run of it is started any more."""
        return self.spec.maintenance is not None and self.spec.maintenance.archived is not None

    @property
    def is_current(self) -> bool:
        """Whether the stored report is of this spec."""
        return self.status.validation is not None and self.status.validation.generation == self.metadata.generation


@dataclass(frozen=True)
class Validate:
    """Make a report."""


RunbookEffect = Validate | Tell


@dataclass(frozen=True, kw_only=True)
class RunbookDecision:
    """What to store, what to do once it is stored, and when to look again."""

    status: RunbookStatus
    effects: tuple[RunbookEffect, ...] = ()
    wake_at: datetime | None = None


def decide_runbook(view: RunbookView, now: datetime) -> RunbookDecision:
    """Return what to store of a runbook now, and what follows. Total and deterministic."""
    generation, status = view.metadata.generation, view.status
    made = view.made if view.made is not None and view.made.generation == generation else None
    stored = status.validation if view.is_current else None
    if view.problems and (stored is None or verdict(stored).reason != "RunbookInvalid"):
        made = report(view.spec, view.problems, None, generation, now)
    status = status.model_copy(
        update={
            "observed_generation": generation,
            "revision": view.revision,
            "problems": view.problems[:32],
            "validation": made or status.validation,
            "update_due": _open_updates(status.update_due, generation),
        }
    )
    view = RunbookView(**{**view.__dict__, "status": status, "made": None})
    fresh = freshness(view.spec.maintenance, view.metadata.creation_timestamp or now, now, view.others)
    said = {
        "Ready": _ready(view.problems),
        "Validated": _validated(view),
        "Fresh": Verdict(fresh.fresh, fresh.reason, fresh.message),
    }
    conditions = status.conditions
    for type_, one in said.items():
        conditions = with_condition(conditions, type_, one.status, one.reason, one.message, now, generation)
    tells = _turns(view.status.conditions, conditions)
    status = status.model_copy(update={"conditions": conditions, "reviewed_at": fresh.reviewed_at})
    due = validation_due(view)
    begins = due is not None and due <= now and not view.busy
    return RunbookDecision(
        status=status,
        effects=(*((Validate(),) if begins else ()), *tells),
        wake_at=earliest(None if begins or view.busy else due, fresh.until),
    )


def _ready(problems: Sequence[RunbookProblem]) -> Verdict:
    if not problems:
        return Verdict(True, "Valid", "every check and fix can be run")
    first, more = problems[0], f" (+{len(problems) - 1} more)" if problems[1:] else ""
    return Verdict(False, "RunbookInvalid", f"{first.field}: {first.message}{more}")


def _validated(view: RunbookView) -> Verdict:
    if view.archived:
        return Verdict(None, "Archived", "an archived runbook is not validated any more")
    if view.status.validation is None or not view.is_current:
        return Verdict(None, "NotYetValidated", "this spec is new, and will be validated soon")
    return verdict(view.status.validation)


def _turns(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Tell, ...]:
    """Return an Event for each condition that turned; a first one is told only where it is False."""
    known = {condition.type: condition.status for condition in before}
    return tuple(
        Tell(new.reason, f"{new.type} is {new.status}: {new.message}", warning=new.status == "False")
        for new in after
        if known.get(new.type, new.status if new.status != "False" else "") != new.status
    )


def validation_due(view: RunbookView) -> datetime | None:
    """Return when a runbook is validated next; None: only another spec, or another operator, makes it so.

    What was never validated comes within SPREAD, what failed or gave no answer within RETRY, else in a rhythm of its
    own, spread by UID, that leaves at most `validateEvery` between two.
    """
    if view.archived or not view.mine or view.problems:
        return None
    uid, last = view.metadata.uid, view.status.validation
    if last is None or not view.is_current:
        return view.since + share(uid, view.timing.scaled(SPREAD))
    every = view.spec.maintenance.validate_every if view.spec.maintenance is not None else None
    every = min(max(VALIDATE_EVERY if every is None else every, view.timing.scaled(LEAST)), MOST)
    if verdict(last).reason not in ("Validated", "NoTrial"):
        retry = min(every, view.timing.scaled(RETRY))
        return last.at + retry / 2 + share(uid, retry / 2)
    return next_slot(uid, every, last.at)


def share(uid: str, whole: timedelta) -> timedelta:
    """Return a runbook's own part of a length of time: from nothing to all of it, the same in every process."""
    return whole * (int(hashlib.sha256(uid.encode()).hexdigest()[:12], 16) / 0xFFFF_FFFF_FFFF)
