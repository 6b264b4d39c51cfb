"""The outside of the simulated world: what is broken, what calls do to it, what looking at it shows."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from incident_operator.api.grant import ActionGrant
from incident_operator.api.meta import Metadata, Risk, Severity
from incident_operator.api.plan import (
    Guard,
    Read,
    RemediationPlan,
    Repeat,
    TemporaryFix,
    Tier,
    Undo,
    Verify,
)
from incident_operator.api.run import CheckState, CheckStatus, Finding, IncidentRun
from incident_operator.api.runbook import RunbookSpec
from incident_operator.core.run import CheckResult
from tests.builders import NOW, ROLE, a_call, a_grant, a_plan, a_run, a_runbook

#: What is broken, the finding that shows it, and the fix that mends it.
FIXES = {"restoreAccess": "RoleLacks", "rollback": "CodeFails"}
CHECKS = {"access": "RoleLacks", "code": "CodeFails"}
DEPENDENCIES = {
    "users": frozenset[str](),
    "access": frozenset({"users"}),
    "code": frozenset[str](),
}
CREDENTIAL = "postgres://shop:hunter2@db"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What does not change in a history: how the fixes are made, how they work out, what the run permits.

    Shape: `helps` is what judging will show once all calls took effect. `wire` sends every write through JSON and
    redaction, as the API server does, and puts a credential into the messages.
    """

    repeats: tuple[Repeat, ...]
    undo: bool
    helps: str
    causes: frozenset[str]
    observe_only: bool
    #: Whether people must agree to the fixes.
    asks: bool
    temporary: str | None
    severity: Severity
    if_no_help: str
    wire: bool


@lru_cache
def the_runbook(if_no_help: str) -> RunbookSpec:
    """Return the runbook: three checks, two fixes, recovery by what users feel; short waits keep histories short."""
    return a_runbook(
        steps=[
            {
                "name": "assess",
                "title": "Assess",
                "expectedBy": "5m",
                "checks": [
                    {"name": "users", "action": "lambda.invocations"},
                    {"name": "access", "action": "iam.role-access"},
                    {"name": "code", "action": "lambda.errors"},
                ],
            },
            {
                "name": "remedy",
                "title": "Remedy",
                "expectedBy": "10m",
                "fixes": [
                    {
                        "name": "restoreAccess",
                        "action": "iam.restore-role-access",
                        "onFindings": ["RoleLacks"],
                        "ifNoHelp": if_no_help,
                    },
                    {"name": "rollback", "action": "lambda.rollback-alias", "onFindings": ["CodeFails"]},
                ],
            },
        ],
        recovery={"checks": ["users"], "stableFor": "1m", "within": "2m"},
    )


@lru_cache
def the_run(observe_only: bool, severity: Severity) -> IncidentRun:
    """Return the run as carol applied it."""
    automation = {"applyUpTo": "None", "askUpTo": "None"} if observe_only else {"applyUpTo": "Low"}
    incident = {"title": "mails fail", "severity": severity}
    return a_run(automation=automation, incident=incident, requestedBy="carol", approvalTimeout="30m")


@lru_cache
def the_plan(
    fix: str, attempt: int, repeats: tuple[Repeat, ...], undo: bool, asks: bool, temporary: str | None
) -> RemediationPlan:
    """Return the plan of an attempt at a fix. Disruptive ones ask, of which one other person is enough."""
    calls = tuple(a_call(repeat=r, operation=f"call_{i}") for i, r in enumerate(repeats))
    undone = Undo(calls=(a_call(operation="undo_0"), a_call(operation="undo_1")), guards=(GUARD,))
    back = {"undo": undone if undo else None}
    irreversible = None if undo else "there is no way back"
    plan = a_plan(
        fix=fix,
        action="iam.restore-role-access" if fix == "restoreAccess" else "lambda.rollback-alias",
        attempt=attempt,
        calls=calls,
        risk=Risk.DISRUPTIVE if asks else Risk.LOW,
        tier=Tier.DISRUPTIVE if asks else Tier.LOW,
        temporary=TemporaryFix(review_after=timedelta(minutes=3), on_expiry=temporary) if temporary else None,  # type: ignore[arg-type]
        irreversible=irreversible,
        revert_if_worse=undo,
        verify=Verify(
            signal="no denials",
            wait=timedelta(seconds=20),
            every=timedelta(seconds=20),
            deadline=timedelta(seconds=60),
        ),
        **back,
    )
    name = f"run-{fix.lower()}-{attempt}-00000000"
    metadata = Metadata(name=name, namespace="shop", uid=f"uid-{name}", creation_timestamp=NOW)
    return plan.model_copy(update={"metadata": metadata})


GUARD = Guard(read=Read(service="iam", operation="get_policy"), path="DefaultVersionId")
GRANT = a_grant()
HALTED = a_grant(suspended={"reason": "game day"})
NARROW = a_grant(
    aws={"roleArn": ROLE, "regions": ["us-east-1"], "resources": ["arn:aws:iam::123456789012:role/another"]}
)


@lru_cache
def _answer(name: str, state: CheckState, reason: str | None, secret: bool) -> CheckResult:
    message = f"{reason or state}{f' at {CREDENTIAL}' if secret else ''}"
    status = CheckStatus(name=name, action="lambda.errors", state=state, reason=reason, message=message)
    found = reason is not None and state == CheckState.FAILED
    finding = Finding(reason=reason or "None", check=name, root_cause=name != "users", message=message)
    return CheckResult(status=status, findings=(finding,) if found else ())


@dataclass
class Shop:
    """The system that runs look at and plans change."""

    setting: Setting
    broken: set[str] = field(init=False)
    grant: ActionGrant = GRANT
    answers: bool = True
    #: How often each call took effect: by plan, phase and index.
    landed: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    #: Calls under way that will take effect, and when at the latest.
    in_flight: list[tuple[datetime, RemediationPlan, str, int]] = field(default_factory=list)
    harmed: bool = False
    #: What the undo's guard reads: moved by people's hands and by undone calls.
    version: int = 0

    def __post_init__(self) -> None:
        self.broken = set(self.setting.causes)

    @property
    def image(self) -> list[int]:
        """What the undo's guards read now."""
        return [self.version]

    @property
    def secret(self) -> str:
        """A credential that gets into messages where the setting lets it."""
        return CREDENTIAL if self.setting.wire else ""

    def ask(self, check: str) -> CheckResult:
        """Return what a check shows now."""
        secret = self.setting.wire
        if not self.answers:
            return _answer(check, CheckState.ERROR, "Unreachable", secret)
        failing = bool(self.broken or self.harmed) if check == "users" else CHECKS[check] in self.broken
        reason = "UsersFailing" if check == "users" else CHECKS[check]
        return _answer(check, CheckState.FAILED, reason, secret) if failing else _passed(check)

    def land(self, plan: RemediationPlan, phase: str, index: int) -> None:
        """Let a call take effect."""
        name = plan.metadata.name
        self.landed[name, phase, index] += 1
        calls = plan.spec.calls if phase == "Apply" else plan.spec.undo.calls if plan.spec.undo else ()
        if not all(self.landed[name, phase, i] for i in range(len(calls))):
            return
        if phase == "Undo":
            self.harmed = False
        elif self.setting.helps == "Helped":
            self.broken.discard(FIXES[plan.spec.fix])
        elif self.setting.helps == "Worse":
            self.harmed = True

    def arrive(self, now: datetime) -> None:
        """Let the calls under way take effect whose time has come."""
        due = [c for c in self.in_flight if c[0] <= now]
        self.in_flight = [c for c in self.in_flight if c[0] > now]
        for _, plan, phase, index in due:
            self.land(plan, phase, index)

    def is_granted(self, plan: RemediationPlan) -> bool:
        """Tell whether the grant of this moment lists what a plan touches."""
        return self.grant is not NARROW


@lru_cache
def _passed(check: str) -> CheckResult:
    return _answer(check, CheckState.PASSED, None, False)


START = NOW
