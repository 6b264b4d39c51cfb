"""Reviews: the document's own example word for word, drafts of runs that ended, and what a draft never does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from incident_operator.api.meta import Severity, parse_instant
from incident_operator.api.plan import (
    Approval,
    CallState,
    JournalEntry,
    PlanState,
    RemediationPlan,
    RemediationPlanStatus,
    TemporaryStatus,
    Tier,
)
from incident_operator.api.review import Classification, PostIncidentReview, PostIncidentReviewStatus
from incident_operator.api.run import IncidentRun, RecoveryStatus, Resolution, RunPhase
from incident_operator.core.redact import MARK, is_clean
from incident_operator.core.review import (
    DUE_AFTER,
    begun,
    draft,
    facts,
    in_words,
    is_overdue,
    is_reviewed,
    review_name,
    undrafted,
)
from incident_operator.core.review_text import MISSING, markdown, message
from tests.builders import NOW, a_plan, a_run, a_runbook

#: Copied from the document's "Template for PIR Document".
DOCUMENT = """\
# Post-Incident Review: INC-2024-XXXX

## Incident Summary
- **Date/Time**: 2024-01-15 14:30 UTC
- **Duration**: 23 minutes
- **Severity**: P1
- **Services Affected**: User Authentication, Product Search
- **Customer Impact**: 15% of requests failed

## Timeline
- 14:30 - Alert triggered: Lambda error rate spike
- 14:32 - On-call engineer paged
- 14:35 - Initial investigation started
- 14:42 - Root cause identified (connection pool exhaustion)
- 14:45 - Mitigation applied (increased memory allocation)
- 14:53 - Service fully restored

## Root Cause Analysis
**Primary Cause**: Database connection pool exhaustion in Lambda function
**Contributing Factors**:
- Recent traffic increase not accounted for in capacity planning
- Connection pool size not optimized for current load
- Lack of connection pool monitoring

## What Went Well
- Alert fired within 2 minutes of issue start
- On-call engineer responded quickly
- Standard runbook followed effectively
- Communication to stakeholders was timely

## What Could Be Improved
- Connection pool monitoring should have caught this earlier
- Capacity planning process needs enhancement
- Lambda memory allocation should be reviewed regularly

## Action Items
1. **[HIGH]** Implement connection pool monitoring (Owner: @platform-team, Due: 2024-01-22)
2. **[MEDIUM]** Review all Lambda memory allocations (Owner: @backend-team, Due: 2024-01-29)
3. **[LOW]** Update capacity planning process (Owner: @architecture-team, Due: 2024-02-05)
"""
#: Copied from the document's "Stakeholder Communication".
MESSAGE = """\
Subject: [RESOLVED] P1 Incident - Lambda Function Failures

Incident: INC-2024-XXXX
Status: RESOLVED
Duration: 23 minutes
Impact: 15% of user requests affected
Root Cause: Database connection pool exhaustion
Resolution: Increased Lambda memory allocation and implemented connection pooling

Next Steps:
- Permanent fix scheduled for next sprint
- Monitoring enhancements to prevent recurrence
"""


def _clock(text: str) -> str:
    return f"2024-01-15T{text}:00Z"


def the_documents(**spec: Any) -> PostIncidentReview:
    """Return the document's example as an object."""
    return PostIncidentReview.model_validate(
        {
            "metadata": {"name": "inc-2024-xxxx-00000000", "namespace": "shopsmart"},
            "spec": {
                "ticket": "INC-2024-XXXX",
                "detectedAt": _clock("14:30"),
                "draftedAt": _clock("14:53"),
                "title": "Lambda Function Failures",
                "severity": "P1",
                "servicesAffected": ["User Authentication", "Product Search"],
                "customerImpact": "15% of requests failed",
                "timeline": [
                    {"at": _clock("14:30"), "text": "Alert triggered: Lambda error rate spike"},
                    {"at": _clock("14:32"), "text": "On-call engineer paged"},
                    {"at": _clock("14:35"), "text": "Initial investigation started"},
                    {"at": _clock("14:42"), "text": "Root cause identified (connection pool exhaustion)"},
                    {"at": _clock("14:45"), "text": "Mitigation applied (increased memory allocation)"},
                    {"at": _clock("14:53"), "text": "Service fully restored"},
                ],
                "primaryCause": {"text": "Database connection pool exhaustion in Lambda function"},
                "contributingFactors": [
                    "Recent traffic increase not accounted for in capacity planning",
                    "Connection pool size not optimized for current load",
                    "Lack of connection pool monitoring",
                ],
                "wentWell": [
                    "Alert fired within 2 minutes of issue start",
                    "On-call engineer responded quickly",
                    "Standard runbook followed effectively",
                    "Communication to stakeholders was timely",
                ],
                "couldBeImproved": [
                    "Connection pool monitoring should have caught this earlier",
                    "Capacity planning process needs enhancement",
                    "Lambda memory allocation should be reviewed regularly",
                ],
                "actionItems": [
                    {
                        "text": "Implement connection pool monitoring",
                        "priority": "High",
                        "owner": "@platform-team",
                        "dueDate": "2024-01-22",
                    },
                    {
                        "text": "Review all Lambda memory allocations",
                        "priority": "Medium",
                        "owner": "@backend-team",
                        "dueDate": "2024-01-29",
                    },
                    {
                        "text": "Update capacity planning process",
                        "priority": "Low",
                        "owner": "@architecture-team",
                        "dueDate": "2024-02-05",
                    },
                ],
                **spec,
            },
            "status": {
                "duration": "23m",
                "resolution": {
                    "phase": "Resolved",
                    "outcome": "Runbook",
                    "summary": "Increased Lambda memory allocation and implemented connection pooling",
                    "by": "Runbook",
                    "at": _clock("15:03"),
                    "restoredAt": _clock("14:53"),
                },
            },
        }
    )


def _sections(text: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in text.split("\n## ")}


def test_the_documents_review_is_rendered_as_the_document_writes_it() -> None:
    """Section by section, and as a whole."""
    shown = markdown(the_documents())
    for heading, section in _sections(DOCUMENT).items():
        assert _sections(shown)[heading] == section
    assert shown == DOCUMENT


def test_the_documents_message_is_written_as_the_document_writes_it() -> None:
    """With the duration that was measured and the words of those who wrote the review."""
    steps = ["Permanent fix scheduled for next sprint", "Monitoring enhancements to prevent recurrence"]
    review = the_documents(
        customerImpact="15% of user requests affected",
        primaryCause={"text": "Database connection pool exhaustion"},
        actionItems=[*({"text": step} for step in steps), {"text": "already done", "done": True}],
    )
    assert message(review) == MESSAGE


# --- the document's example, from facts -------------------------------------------------------------------------------

#: What the runbook of the example says of its two fixes.
EXAMPLE_RUNBOOK = a_runbook(
    steps=[
        {
            "name": "remedy",
            "title": "Quick Remediation",
            "expectedBy": "30m",
            "checks": [{"name": "users", "action": "a.b"}],
            "fixes": [
                {
                    "name": "raiseMemory",
                    "action": "a.c",
                    "onFindings": ["PoolExhausted"],
                    "followUp": {
                        "text": "Implement connection pool monitoring",
                        "priority": "High",
                        "owner": "@platform-team",
                    },
                },
                {
                    "name": "poolConnections",
                    "action": "a.d",
                    "onFindings": ["PoolExhausted"],
                    "followUp": {"text": "Review all Lambda memory allocations", "owner": "@backend-team"},
                },
            ],
        }
    ]
)
#: What no machine knows: the alarm and the page were not the operator's, services and lessons are people's words.
PEOPLES: dict[str, Any] = {
    "servicesAffected": ["User Authentication", "Product Search"],
    "contributingFactors": [
        "Recent traffic increase not accounted for in capacity planning",
        "Connection pool size not optimized for current load",
        "Lack of connection pool monitoring",
    ],
    "wentWell": [
        "Alert fired within 2 minutes of issue start",
        "On-call engineer responded quickly",
        "Standard runbook followed effectively",
        "Communication to stakeholders was timely",
    ],
    "couldBeImproved": [
        "Connection pool monitoring should have caught this earlier",
        "Capacity planning process needs enhancement",
        "Lambda memory allocation should be reviewed regularly",
    ],
    "complete": True,
}
ALARM, PAGED = "Alert triggered: Lambda error rate spike", "On-call engineer paged"
LAST_ITEM = {
    "text": "Update capacity planning process",
    "priority": "Low",
    "owner": "@architecture-team",
    "dueDate": "2024-02-05",
}


def the_examples_run() -> IncidentRun:
    """Return the run of the document's example: detected 14:30, well again 14:53, ten minutes more to be sure."""
    pool = "connection pool exhaustion"
    size = "Connection pool size not optimized for current load"
    return a_run(
        incident={  # type: ignore[arg-type]
            "ticket": "INC-2024-XXXX",
            "title": "Lambda Function Failures",
            "severity": "P1",
            "detectedAt": _clock("14:30"),
        },
        status={  # type: ignore[arg-type]
            "phase": "Resolved",
            "outcome": "Runbook",
            "resolution": "Runbook",
            "severity": "P1",
            "startedAt": _clock("14:35"),
            "finishedAt": _clock("15:03"),
            "settled": True,
            # A person's word: the cause is not a guess any more.
            "rootCause": {
                "summary": "Database connection pool exhaustion in Lambda function",
                "reasons": ["PoolExhausted"],
                "probable": False,
            },
            "impact": {"summary": "15% failed", "failed": 180, "total": 1200, "percent": 15.0},
            "recovery": {"state": "Passing", "passingSince": _clock("14:53"), "samples": 9},
            "findings": [
                {"reason": "PoolExhausted", "check": "pool", "rootCause": True, "message": pool},
                {"reason": "PoolTooSmall", "check": "pool", "rootCause": True, "message": size},
            ],
            "timeline": [
                {"at": _clock("14:35"), "reason": "Started", "message": "runbook lambda-failures"},
                {"at": _clock("14:42"), "reason": "PoolExhausted", "message": pool, "source": "check pool"},
                {"at": _clock("14:42"), "reason": "PoolTooSmall", "message": size, "source": "check pool"},
                {"at": _clock("14:43"), "reason": "Diagnosed", "message": "2 problems found by 1 check"},
                {
                    "at": _clock("14:45"),
                    "reason": "Applied",
                    "message": "increased memory allocation",
                    "source": "plan m",
                },
                {"at": _clock("15:03"), "reason": "Resolved", "message": "Runbook"},
            ],
            "conditions": [
                {
                    "type": "Finished",
                    "status": "True",
                    "reason": "Runbook",
                    "message": "Increased Lambda memory allocation and implemented connection pooling",
                    "lastTransitionTime": _clock("15:03"),
                }
            ],
        },
    )


def the_examples_plans() -> tuple[RemediationPlan, ...]:
    """Return the two plans that helped."""
    began, ended_at = parse_instant(_clock("14:45")), parse_instant(_clock("14:53"))
    call = JournalEntry(index=0, state=CallState.SUCCEEDED, intent_at=began, deadline=ended_at, epoch=1)
    status = RemediationPlanStatus(state=PlanState.HELPED, started_at=began, finished_at=ended_at, calls=(call,))
    return tuple(a_plan(fix=fix, title=fix, status=status) for fix in ("raiseMemory", "poolConnections"))


def test_the_documents_example_as_facts_gives_the_documents_text() -> None:
    """Facts → draft → people's words on top → the document, section by section, and its message."""
    run, plans, end = the_examples_run(), the_examples_plans(), parse_instant(_clock("15:03"))
    drafted = draft(run, plans, EXAMPLE_RUNBOOK, end)
    known = facts(PostIncidentReviewStatus(), run, plans, end)
    # What a machine can know stands in the draft in the document's own words.
    told = [f"- {line.at:%H:%M} - {line.text}" for line in drafted.timeline]
    from_facts = [line for line in told if line in DOCUMENT.splitlines()]
    assert from_facts == [
        "- 14:35 - Initial investigation started",
        "- 14:42 - Root cause identified (connection pool exhaustion)",
        "- 14:45 - Mitigation applied (increased memory allocation)",
        "- 14:53 - Service fully restored",
    ]
    assert drafted.contributing_factors == (PEOPLES["contributingFactors"][1],)
    assert [(item.text, item.due_date) for item in drafted.action_items] == [
        ("Implement connection pool monitoring", "2024-01-22"),
        ("Review all Lambda memory allocations", "2024-01-29"),
    ]
    kept = [line.wire() for line in drafted.timeline if f"- {line.at:%H:%M} - {line.text}" in from_facts]
    alarm, paged = {"at": _clock("14:30"), "text": ALARM}, {"at": _clock("14:32"), "text": PAGED}
    spec = {
        **drafted.wire(),
        **PEOPLES,
        "timeline": [alarm, paged, *kept],
        "actionItems": [*(item.wire() for item in drafted.action_items), LAST_ITEM],
    }
    assert {name for name in spec if spec[name] != drafted.wire()[name]} == {*PEOPLES, "timeline", "actionItems"}
    review = PostIncidentReview.model_validate(
        {"metadata": {"name": review_name(run)}, "spec": spec, "status": known.wire()}
    )
    shown = markdown(review.model_copy(update={"spec": review.spec.model_copy(update={"knowledge_base": ()})}))
    for heading, section in _sections(DOCUMENT).items():
        assert _sections(shown)[heading] == section
    assert shown == DOCUMENT
    # The message rests on the same: two of its lines are the document's other words for the same thing.
    lines = message(review).splitlines()
    assert [line for line in lines if line in MESSAGE.splitlines()] == [
        "Subject: [RESOLVED] P1 Incident - Lambda Function Failures",
        "",
        "Incident: INC-2024-XXXX",
        "Status: RESOLVED",
        "Duration: 23 minutes",
        "Resolution: Increased Lambda memory allocation and implemented connection pooling",
        "",
        "Next Steps:",
    ]
    assert "Root Cause: Database connection pool exhaustion in Lambda function" in lines
    assert "Impact: 15% of requests failed" in lines


def test_what_nobody_wrote_is_said_to_be_missing() -> None:
    """Never invented, never left out: the template stays whole."""
    bare = PostIncidentReview.model_validate(
        {"metadata": {"name": "run-00000000"}, "spec": {"detectedAt": _clock("14:30")}}
    )
    shown = markdown(bare)
    assert _sections(shown).keys() == {*_sections(DOCUMENT).keys()} - {"# Post-Incident Review: INC-2024-XXXX"} | {
        "# Post-Incident Review: run-00000000"
    }
    assert shown.count(MISSING) == 9
    assert message(bare).count(MISSING) == 5


def test_a_text_is_no_markup_and_no_secret() -> None:
    """Whatever people or systems wrote into it."""
    shown = markdown(the_documents(wentWell=["# <script>x</script>\n## Forged", "password=hunter2x"], title="a"))
    assert "\n- \\# \\<script>x\\</script> ## Forged\n" in shown
    assert "hunter2x" not in shown
    assert "redacted" in shown


# --- drafts -----------------------------------------------------------------------------------------------------------

FOLLOW_UP = {"text": "Review the role in the pipeline", "priority": "High", "dueIn": "7d", "owner": "@platform-team"}
RUNBOOK = a_runbook(
    maintenance={"owner": "platform-engineering"},
    steps=[
        {"name": "assess", "title": "Assessment", "expectedBy": "5m", "checks": [{"name": "users", "action": "a.b"}]},
        {
            "name": "remedy",
            "title": "Quick Remediation",
            "expectedBy": "10m",
            "fixes": [
                {"name": "restoreAccess", "action": "a.c", "onFindings": ["RoleLacks"], "followUp": FOLLOW_UP},
                {"name": "rollback", "action": "a.d", "onFindings": ["RoleLacks"]},
            ],
        },
    ],
)


def at(minutes: float) -> datetime:
    """Return an instant after detection."""
    return NOW + timedelta(minutes=minutes)


def ended(phase: str = "Resolved", outcome: str = "Runbook", **status: Any) -> IncidentRun:
    """Return a run that has ended after 33 minutes; users were well from the 23rd on where it is Resolved."""
    finished = {"type": "Finished", "status": "True", "reason": outcome, "message": "restore access"}
    values: dict[str, Any] = {
        "phase": phase,
        "outcome": outcome,
        "resolution": "Runbook" if phase == "Resolved" else None,
        "severity": "P1",
        "startedAt": at(5),
        "finishedAt": at(33),
        "settled": True,
        "rootCause": {"summary": "the role may not GetItem", "reasons": ["RoleLacks"]},
        "impact": {"summary": "36 of 240 failed (15 %)", "failed": 36, "total": 240, "percent": 15.0},
        "recovery": {"state": "Passing", "passingSince": at(23), "samples": 9},
        "findings": [
            {"reason": "RoleLacks", "check": "access", "rootCause": True, "message": "the role may not GetItem"},
            {"reason": "RecentChange", "check": "changes", "kind": "Info", "message": "a change", "actor": "deployer"},
            {"reason": "Fine", "check": "users", "kind": "Info", "message": "nothing to say"},
        ],
        "steps": [
            {
                "name": "assess",
                "title": "Assessment",
                "expectedBy": at(10),
                "checks": [{"name": "users", "action": "a.b", "state": "Passed"}],
            },
            {
                "name": "remedy",
                "title": "Quick Remediation",
                "expectedBy": at(15),
                "fixes": [{"name": "restoreAccess", "action": "a.c", "state": "Helped"}],
            },
        ],
        "timeline": [
            {"at": at(5), "reason": "Started", "message": "runbook lambda-failures: Lambda Function Failures"},
            {"at": at(5.1), "reason": "RoleLacks", "message": "the role may not GetItem", "source": "check access"},
            {"at": at(6), "reason": "Diagnosed", "message": "1 problem found by 2 checks"},
            {"at": at(6), "reason": "Planned", "message": "restore access", "source": "plan p"},
            {"at": at(7), "reason": "AwaitingApproval", "message": "asks", "source": "plan p"},
            {"at": at(8), "reason": "Noted", "message": "bob: on it", "source": "intervention note-1"},
            {"at": at(17), "reason": "Applied", "message": "restore access", "source": "plan p"},
            {"at": at(33), "reason": phase, "message": f"{outcome}: restore access"},
        ],
        "conditions": [{**finished, "lastTransitionTime": at(33)}],
        **status,
    }
    incident = {"ticket": "INC-1", "title": "mails fail", "severity": "P1", "detectedAt": NOW}
    return a_run(status=values, incident=incident)  # type: ignore[arg-type]


def applied(state: PlanState = PlanState.HELPED, *, fix: str = "restoreAccess", **status: Any) -> RemediationPlan:
    """Return a plan that was applied 17 minutes after detection, agreed to by bob after ten minutes."""
    approval = Approval(responder="bob", intervention="w", at=at(17), expires_at=at(77), tier=Tier.LOW)
    call = JournalEntry(index=0, state=CallState.SUCCEEDED, intent_at=at(17), deadline=at(18), epoch=1)
    values = {
        "state": state,
        "message": f"it is {state}",
        "approvals": (approval,),
        "approved_at": at(17),
        "started_at": at(17),
        "applied_at": at(17.5),
        "finished_at": at(20),
        "calls": (call,),
        "settled": True,
    }
    return a_plan(fix=fix, title=f"{fix}!", status=RemediationPlanStatus(**{**values, **status}))


def test_a_draft_has_the_documents_sections_from_facts() -> None:
    """Each line from an instant, a plan or a check; a cause that no person named is probable."""
    drafted = draft(ended(), (applied(),), RUNBOOK, at(33))
    assert (drafted.ticket, drafted.detected_at, drafted.drafted_at) == ("INC-1", NOW, at(33))
    assert (drafted.title, drafted.severity, drafted.resolution) == ("mails fail", Severity.P1, "restore access")
    assert drafted.customer_impact == "15% of requests failed"
    assert drafted.primary_cause is not None
    assert (drafted.primary_cause.text, drafted.primary_cause.probable) == ("the role may not GetItem", True)
    assert drafted.contributing_factors == (), "a change of something else is none, whoever made it"
    assert [(f"{line.at:%H:%M}", line.text) for line in drafted.timeline] == [
        ("14:30", "Incident detected: mails fail"),
        ("14:35", "Initial investigation started"),
        ("14:35", "Probable root cause identified (the role may not GetItem)"),
        ("14:36", "Diagnosed: 1 problem found by 2 checks"),
        ("14:37", "Awaiting approval: asks"),
        ("14:38", "bob: on it"),
        ("14:47", "Mitigation applied (restore access)"),
        ("14:53", "Service fully restored"),
        ("15:03", "Resolved: Runbook: restore access"),
    ]
    assert drafted.went_well == (
        "Investigation started 5 minutes after detection",
        "First finding 6 seconds after the start: the role may not GetItem",
        "restoreAccess!: applied 17 minutes after detection, and it helped (it is Helped)",
        "bob agreed within 10 minutes: restoreAccess!",
        "The standard runbook lambda-failures resolved it",
    )
    assert drafted.could_be_improved == ("Step Quick Remediation came at 14:47, 2 minutes later than its 14:45",)
    (item,) = drafted.action_items
    assert (item.text, item.priority, item.owner, item.due_date) == (
        *("Review the role in the pipeline", "High", "@platform-team"),
        f"{at(33) + timedelta(days=7):%Y-%m-%d}",
    )
    assert drafted.knowledge_base == (
        "Add INC-1 to the history of lambda-failures: the role may not GetItem; resolved by: restore access",
    )


ROLE = "arn:aws:iam::123456789012:role/lambda-execution-role"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:Birthday"


def change(event: str, subject: str, *, after: float = -20, by: str = "deployer") -> dict[str, Any]:
    """Return what CloudTrail shows of one change. Units: minutes from detection."""
    message = f"{event} on {subject} by {by} at {at(after):%Y-%m-%d %H:%M:%S}Z"
    return {
        **{"reason": "RecentChange", "check": "changes", "kind": "Info", "message": message},
        **{"subject": subject, "actor": by, "at": at(after)},
    }


def cause(message: str, subject: str, **finding: Any) -> dict[str, Any]:
    """Return a problem that may be the cause."""
    return {
        "reason": "RoleLacks",
        "check": "access",
        "rootCause": True,
        "message": message,
        "subject": subject,
    } | finding


SYMPTOM = {"reason": "UsersFailing", "check": "users", "message": "19 of 63 failed", "subject": "Birthday:LIVE"}
SHORTLY = "Changed shortly before, and not known to have contributed: "


MAY_NOT = "lambda-execution-role may not GetItem"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/users"
SET_UP = [change("PublishVersion", FUNCTION), change("CreateAlias", FUNCTION)]


@pytest.mark.parametrize(
    ("summary", "findings", "expected"),
    [
        # What set the service up minutes before touches nothing that is broken: the role is, not the function.
        (MAY_NOT, [cause(MAY_NOT, TABLE), SYMPTOM, *SET_UP], []),
        # As when everything is looked at again after the fix: the cause is known, and its finding is gone.
        (MAY_NOT, SET_UP, []),
        # A change of what the cause is about, by its name in the message; a name that only begins so is another's.
        (
            MAY_NOT,
            [change("AttachRolePolicy", "lambda-execution-role"), change("UpdateRole", "lambda-execution")],
            [SHORTLY + change("AttachRolePolicy", "lambda-execution-role")["message"]],
        ),
        # By its ARN, where the finding has its name as the subject.
        (
            "the code raises errors",
            [cause("the code raises errors", "Birthday:LIVE"), change("UpdateAlias", FUNCTION)],
            [SHORTLY + change("UpdateAlias", FUNCTION)["message"]],
        ),
        # What a plan touched that helped: the policy.
        (
            "mails are refused",
            [change("DetachRolePolicy", ROLE)],
            [SHORTLY + change("DetachRolePolicy", ROLE)["message"]],
        ),
        # The cause names this very change; our own, or anybody's, after detection broke nothing before it.
        (
            f"{MAY_NOT}; {change('PutRolePolicy', ROLE)['message']}",
            [change("PutRolePolicy", ROLE), change("PutRolePolicy", ROLE, after=17, by="IncidentOperatorRemediation")],
            [],
        ),
        # Two causes: the first is the primary one, the other has contributed; what users felt has not.
        (
            f"{MAY_NOT} (+1 more)",
            [cause(MAY_NOT, ROLE), cause("out of memory", "Birthday:LIVE", actor="deployer"), SYMPTOM],
            ["out of memory (by deployer)"],
        ),
        # No cause at all: what was found, and every change before it as a lead.
        (
            None,
            [SYMPTOM, change("PublishVersion", FUNCTION), change("UpdateRole", ROLE, after=1)],
            ["19 of 63 failed", SHORTLY + change("PublishVersion", FUNCTION)["message"]],
        ),
    ],
)
def test_a_change_is_a_factor_only_if_it_touched_what_broke(
    summary: str | None, findings: list[dict[str, Any]], expected: list[str]
) -> None:
    """Before the incident, on what its cause is about; and then it is told as what it is, a coincidence so far."""
    run = ended(findings=findings, rootCause={"summary": summary} if summary else None)
    assert list(draft(run, (applied(),), RUNBOOK, at(33)).contributing_factors) == expected
    reverted = draft(run, (applied(PlanState.REVERTED),), RUNBOOK, at(33)).contributing_factors
    assert (list(reverted) == expected) == (summary != "mails are refused"), "what did not help proves nothing"


def test_a_temporary_fix_becomes_work_with_its_date() -> None:
    """Owned by who keeps the runbook, due when it must be looked at."""
    plan = applied(fix="rollback", temporary=TemporaryStatus(until=at(24 * 60)))
    (item,) = draft(ended(), (plan,), RUNBOOK, at(33)).action_items
    assert "Replace the temporary fix" in item.text
    assert (item.priority, item.owner, item.due_date) == ("High", "platform-engineering", f"{at(24 * 60):%Y-%m-%d}")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (PlanState.NO_EFFECT, "rollback! had no effect: it is NoEffect"),
        (PlanState.REVERTED, "rollback! was put back: it is Reverted"),
        (PlanState.WORSE, "rollback! made it worse: it is Worse"),
        (PlanState.UNKNOWN, "rollback! may or may not have been applied: it is Unknown"),
    ],
)
def test_what_did_not_help_is_to_be_improved(state: PlanState, words: str) -> None:
    """And who keeps the runbook looks at what nobody understands."""
    drafted = draft(ended("Unresolved", "FixesExhausted"), (applied(state, fix="rollback"),), RUNBOOK, at(33))
    assert words in drafted.could_be_improved
    assert not any("helped" in line for line in drafted.went_well)
    left = [item.text for item in drafted.action_items if item.text.startswith("Look at what is left")]
    assert bool(left) == (state in (PlanState.WORSE, PlanState.UNKNOWN))
    assert "Make sure that users are well: the run ended Unresolved" in [i.text for i in drafted.action_items]
    assert "Service fully restored" not in [line.text for line in drafted.timeline]


def test_slow_people_silent_checks_and_missing_fixes_are_to_be_improved() -> None:
    """With the time it took, and what the runbook could learn."""
    silent = {"name": "users", "action": "a.b", "state": "Error", "reason": "AccessDenied", "message": "denied"}
    run = ended(
        *("Unresolved", "NoFixApplies"),
        startedAt=at(90),
        steps=[{"name": "assess", "title": "Assessment", "checks": [silent]}],
        timeline=[{"at": at(100), "reason": "AwaitingApproval", "message": "asks", "source": "plan p"}],
    )
    drafted = draft(run, (applied(approved_at=at(190)),), RUNBOOK, at(200))
    assert "Investigation started 1 hour 30 minutes after detection; P1 allows 1 hour" in drafted.could_be_improved
    assert "People took 1 hour 30 minutes to agree: restoreAccess!" in drafted.could_be_improved
    assert "Check users gave no answer (AccessDenied): denied" in drafted.could_be_improved
    assert "Add a fix to lambda-failures for RoleLacks" in drafted.knowledge_base
    assert "Correct check users of lambda-failures, or its grant: it ended AccessDenied" in drafted.knowledge_base


def test_a_draft_and_its_facts_have_no_secret() -> None:
    """Whatever reached the run's texts; and all of it fits the contract."""
    secret = "password=hunter2hunter2 " + "x" * 990
    run = ended(
        rootCause={"summary": secret[:1024], "reasons": []},
        timeline=[{"at": at(5), "reason": "RoleLacks", "message": secret[:1024], "source": "check access"}] * 96,
    )
    drafted, known = draft(run, (), RUNBOOK, at(33)), facts(PostIncidentReviewStatus(), run, (), at(33))
    assert is_clean(drafted.wire())
    assert is_clean(known.wire())
    assert MARK in str(drafted.wire())
    shown = PostIncidentReview.model_validate(
        {"metadata": {"name": "r"}, "spec": drafted.wire(), "status": known.wire()}
    )
    assert "hunter2" not in markdown(shown, with_facts=True) + message(shown)


def test_what_a_person_wrote_before_the_draft_stays() -> None:
    """A draft adds what is missing, and says that it was made."""
    stored: dict[str, object] = {"ticket": "INC-1", "title": "what alice calls it", "wentWell": ["tea"], "timeline": []}
    added = undrafted(stored, draft(ended(), (applied(),), RUNBOOK, at(33)))
    assert not added.keys() & {"ticket", "title", "wentWell"}
    assert added["draftedAt"] == "2026-01-15T15:03:00.000Z"
    assert added["timeline"]
    assert "complete" not in added


# --- facts ------------------------------------------------------------------------------------------------------------


def test_facts_are_measured_from_detection() -> None:
    """Until users were well, not until the run was sure of it."""
    known = facts(PostIncidentReviewStatus(), ended(), (applied(),), at(33))
    assert known.duration == timedelta(minutes=23)
    assert known.due_at == at(33) + DUE_AFTER
    assert known.times is not None
    assert dict(known.times) == {
        "started": timedelta(minutes=5),
        "first_finding": timedelta(minutes=5.1),
        "diagnosed": timedelta(minutes=6),
        "mitigated": timedelta(minutes=17.5),
        "restored": timedelta(minutes=23),
    }
    (plan,) = known.plans
    assert (plan.fix, plan.state, plan.started_at) == ("restoreAccess", PlanState.HELPED, at(17))
    assert [fact.source for fact in known.timeline if fact.source] == [
        *("check access", "plan p", "plan p", "intervention note-1", "plan p"),
    ]
    shown = PostIncidentReview.model_validate(
        {"metadata": {"name": "r"}, "spec": {"detectedAt": NOW}, "status": known.wire()}
    )
    told = markdown(shown, with_facts=True).split("## Facts\n")[1]
    assert "- **Outcome**: Resolved (Runbook), 2026-01-15 15:03 UTC\n" in told
    assert "- **Detection to first finding**: 5 minutes\n" in told
    assert "- **Plan**: restoreAccess!: Helped, it is Helped (run-restoreaccess-1-00000000)\n" in told
    assert "- 14:35:06 - RoleLacks: the role may not GetItem (run, check access)\n" in told
    unresolved = facts(PostIncidentReviewStatus(), ended("Unresolved", "NoFixApplies"), (), at(33))
    assert unresolved.duration == timedelta(minutes=33)


def test_facts_told_twice_are_told_once_and_other_runs_stay() -> None:
    """As after a crash between the review and the end of its run."""
    first = facts(PostIncidentReviewStatus(), ended(), (applied(),), at(33))
    assert facts(first, ended(), (applied(),), at(34)) == first
    other = ended()
    other = other.model_copy(update={"metadata": other.metadata.model_copy(update={"name": "again", "uid": "2"})})
    both = facts(first, other, (), at(50))
    assert [run.name for run in both.runs] == ["run", "again"]
    assert {fact.run for fact in both.timeline} == {"run", "again"}
    assert both.plans == first.plans


def named(run: IncidentRun, name: str, **status: Any) -> IncidentRun:
    """Return the run as another one of the same incident."""
    metadata = run.metadata.model_copy(update={"name": name, "uid": name})
    return run.model_copy(update={"metadata": metadata, "status": run.status.model_copy(update=status)})


def test_facts_hold_what_the_metrics_fold_from() -> None:
    """Type, severity, restoration, and whether a person had to agree."""
    known = facts(PostIncidentReviewStatus(), ended(), (applied(),), at(33), incident_type="LambdaFailure")
    assert (known.incident_type, known.severity) == ("LambdaFailure", Severity.P1)
    assert (known.classification, known.duplicate_of, known.drill) == (Classification.INCIDENT, None, False)
    assert (known.restored_at, known.resolved_by, known.automatic) == (at(23), Resolution.RUNBOOK, False)
    assert facts(known, ended(), (applied(),), at(34)).incident_type == "LambdaFailure", "a lost runbook takes nothing"
    alone = facts(PostIncidentReviewStatus(), ended(), (applied(approvals=()),), at(33))
    assert (alone.automatic, alone.incident_type) == (True, None)
    by_itself = facts(PostIncidentReviewStatus(), ended(resolution="SelfRecovered"), (), at(33))
    assert (by_itself.resolved_by, by_itself.automatic) == (Resolution.SELF_RECOVERED, False)
    open_ = facts(PostIncidentReviewStatus(), ended("Unresolved", "NoFixApplies"), (), at(33))
    assert (open_.restored_at, open_.resolved_by, open_.automatic) == (None, None, None)
    nothing = facts(PostIncidentReviewStatus(), ended("NothingFound", "NothingFound"), (), at(33))
    assert nothing.classification == Classification.INCIDENT, "that nothing was found is no false alarm"


def test_a_run_that_begins_is_known_before_it_ends() -> None:
    """With what the metrics group by: an incident under way is an open one of its type, not an unknown one."""
    known = begun(PostIncidentReviewStatus(), ended(), "LambdaFailure", at(5))
    assert (known.incident_type, known.severity) == ("LambdaFailure", Severity.P1)
    assert [(run.name, run.started_at, run.finished_at) for run in known.runs] == [("run", at(5), None)]
    assert known.restored_at is None
    after = facts(known, ended(), (), at(33))
    assert [(run.started_at, run.finished_at) for run in after.runs] == [(at(5), at(33))]


@pytest.mark.parametrize(
    ("second", "reopened", "restored"),
    [
        # It came back 60 minutes after detection, and was brought back again.
        ({"startedAt": at(60), "finishedAt": at(90), "recovery": RecoveryStatus(passing_since=at(80))}, 1, at(80)),
        ({"startedAt": at(60), "finishedAt": at(90), "phase": RunPhase.UNRESOLVED}, 1, None),
        # Somebody looked again, and there was nothing, or it could not look.
        ({"startedAt": at(60), "finishedAt": at(90), "phase": RunPhase.NOTHING_FOUND}, 0, at(23)),
        ({"startedAt": at(60), "finishedAt": at(90), "phase": RunPhase.FAILED}, 0, at(23)),
        # Two runs at once on one incident: it did not come back, it had not gone.
        ({"startedAt": at(10), "finishedAt": at(40), "recovery": RecoveryStatus(passing_since=at(30))}, 0, at(30)),
    ],
)
def test_an_incident_that_comes_back_is_one_with_its_last_restoration(
    second: dict[str, Any], reopened: int, restored: datetime | None
) -> None:
    """The same however often the facts are told, and in whichever order the runs end."""
    fields = {name: second[wire] for wire, name in (("startedAt", "started_at"), ("finishedAt", "finished_at"))}
    again = named(ended(), "again", **fields, **{k: v for k, v in second.items() if not k.endswith("At")})
    first = facts(PostIncidentReviewStatus(), ended(), (), at(33))
    both = facts(first, again, (), at(90))
    assert (both.reopened, both.restored_at) == (reopened, restored)
    assert both.duration == (restored or at(90)) - NOW
    assert facts(both, again, (), at(91)).model_dump() == both.model_dump()
    reverse = facts(facts(PostIncidentReviewStatus(), again, (), at(90)), ended(), (), at(90))
    assert (reverse.reopened, reverse.restored_at) == (reopened, restored)


def test_what_people_say_of_the_incident_outlives_its_runs() -> None:
    """A person resolved it, or it was a duplicate: a run that ends later says nothing against that, unless it does."""
    stood = {"restored_at": at(50), "resolved_by": Resolution.MANUAL, "automatic": False}
    told = {"classification": Classification.DUPLICATE, "duplicate_of": "inc-1"}
    before = facts(PostIncidentReviewStatus(), ended(), (), at(33)).model_copy(update={**stood, **told})
    nothing = facts(before, named(ended(), "x", phase=RunPhase.NOTHING_FOUND, finished_at=at(70)), (), at(70))
    assert (nothing.restored_at, nothing.resolved_by) == (at(50), Resolution.MANUAL)
    assert (nothing.classification, nothing.duplicate_of) == (Classification.DUPLICATE, "inc-1")
    worse = facts(before, named(ended(), "x", phase=RunPhase.UNRESOLVED, finished_at=at(70)), (), at(70))
    assert (worse.restored_at, worse.resolved_by) == (None, None)


def test_a_drill_stays_one_until_a_run_is_none() -> None:
    """Whatever writes its review: nothing of it is counted."""
    real = ended()
    drill = real.model_copy(update={"spec": real.spec.model_copy(update={"drill": True})})
    practised = facts(PostIncidentReviewStatus(), drill, (), at(33))
    assert practised.drill
    assert facts(practised, drill, (), at(34)).drill
    assert not facts(practised, named(real, "real"), (), at(40)).drill
    assert not facts(facts(PostIncidentReviewStatus(), named(real, "real"), (), at(33)), drill, (), at(40)).drill


def test_the_name_is_the_incidents_or_the_runs() -> None:
    """The same for each of its runs where the manifest names the incident; else each run has its own."""
    named = ended()
    again = named.model_copy(update={"metadata": named.metadata.model_copy(update={"name": "x", "uid": "other"})})
    assert review_name(named) == review_name(again)
    assert review_name(named).startswith("inc-1-")
    unnamed = a_run()
    replayed = unnamed.model_copy(update={"metadata": unnamed.metadata.model_copy(update={"uid": "other"})})
    assert review_name(unnamed).startswith("run-")
    assert review_name(unnamed) != review_name(replayed)


def test_who_changed_nothing_and_could_not_has_no_review() -> None:
    """Drills and observe-only runs, and those that never started."""
    assert is_reviewed(ended())
    assert not is_reviewed(ended(startedAt=None))
    assert not is_reviewed(ended(settled=False))
    drill = ended()
    assert not is_reviewed(drill.model_copy(update={"spec": drill.spec.model_copy(update={"drill": True})}))


def test_a_review_is_overdue_until_people_say_that_it_is_complete() -> None:
    """48 hours after the end."""
    due = at(33) + DUE_AFTER
    assert not is_overdue(due, False, due)
    assert is_overdue(due, False, due + timedelta(seconds=1))
    assert not is_overdue(due, True, due + timedelta(days=1))
    assert not is_overdue(None, False, datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=59.9), "59 seconds"),
        (timedelta(seconds=3599), "1 hour"),
        (timedelta(days=1, hours=2, minutes=3), "1 day 2 hours"),
    ],
)
def test_a_length_of_time_is_written_out(value: timedelta, words: str) -> None:
    """Two units at most."""
    assert in_words(value) == words
