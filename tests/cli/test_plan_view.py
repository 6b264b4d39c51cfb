"""A plan's page: enough to agree to it or to do it by hand, and no secret on it."""

import pytest

from incident_operator.api.runbook import Fix
from incident_operator.cli.plan_view import chosen, command, plan_page
from tests.cli.story import CAUSE, PLAN, at, entry, plan, run

PAGE = """\
▶ set BirthdayServiceAccess back to version v1  Applying
inc-2024-0001-restoreaccess-1-1a2b3c4d
  state       Its calls are being made, one at a time, each written down first.
  fix         restoreAccess (iam.restore-role-access), attempt 1, of run inc-2024-0001
  because     RoleLacksAccess: lambda-execution-role may not dynamodb:GetItem on table/birthday-users
  risk        Low, GrantsAccess (tier Low)
  touches     arn:aws:iam::123456789012:policy/BirthdayServiceAccess
  as          arn:aws:iam::123456789012:role/IncidentOperatorRemediation in us-east-1
  unknown     iam:SetDefaultPolicyVersion
  allowed     iam:CreatePolicyVersion
  Changes
    BirthdayServiceAccess, default version
        Statement:
        - Effect: Allow
      -   Action: ses:SendEmail
      +   Action: dynamodb:GetItem
          Resource: '*'
  Calls
    ✔ 1. aws iam create-policy-version
         PolicyArn: arn:aws:iam::123456789012:policy/BirthdayServiceAccess
         PolicyDocument:
           Version: '2012-10-17'
           Statement:
           - Effect: Allow
             Action: dynamodb:GetItem
             Resource: '*'
         Guarded, at most 10s; needs iam:CreatePolicyVersion
         ✔ Succeeded written down 14:30:04Z, ended 14:30:05Z (request abc-123)
    ▶ 2. aws iam set-default-policy-version
         PolicyArn: arn:aws:iam::123456789012:policy/BirthdayServiceAccess
         VersionId: <PolicyVersion.VersionId of the result of call 1>
         Absolute, at most 10s; needs iam:SetDefaultPolicyVersion
         ▶ Intended written down 14:30:05Z
  Proof
    no denials in the log
    looked for after 1m, every 20s, at most 10m
  Undo
    safe when nobody changed the policy since
    · 1. aws iam set-default-policy-version
         PolicyArn: arn:aws:iam::123456789012:policy/BirthdayServiceAccess
         VersionId: v2
         Absolute, at most 10s; needs iam:SetDefaultPolicyVersion"""


def page(*args: object, **kwargs: object) -> str:
    """Return a page as plain text."""
    return "\n".join(text.plain for text in plan_page(*args, **kwargs))  # type: ignore[arg-type]


def test_a_page_has_all_a_person_needs() -> None:
    """Why, what, as whom, with which proof, and the way back."""
    journal = [entry(0, "Succeeded", 4, requestId="abc-123"), entry(1, "Intended", 5)]
    assert page(plan("Applying", calls=journal), run("applying"), None, at(20)) == PAGE


def test_a_page_says_why_a_machine_does_not_apply_it() -> None:
    """The gate that blocked it, from the run's copy while the plan has none; and each reason to ask."""
    blocked = run("diagnosed").model_copy(deep=True)
    step = blocked.status.steps[1]
    fix = step.fixes[0].model_copy(
        update={"state": "Blocked", "reason": "ApprovalMissing", "message": "a person must agree: ActorUnknown"}
    )
    steps = (blocked.status.steps[0], step.model_copy(update={"fixes": (fix,)}))
    blocked = blocked.model_copy(update={"status": blocked.status.model_copy(update={"steps": steps})})
    shown = page(plan(spec={"askBecause": ["ActorUnknown"]}), blocked, None, at(20))
    assert "  blocked     ApprovalMissing: a person must agree: ActorUnknown\n" in shown
    assert "  asks        ActorUnknown: Nobody can name yet who took the access away" in shown


def test_a_page_names_what_its_fix_answers_and_nothing_else() -> None:
    """With the runbook at hand: its findings; once cured, what the timeline tells of them."""
    fix = Fix.model_validate({"name": "restoreAccess", "action": "iam.restore-role-access", "onFindings": ["Other"]})
    assert "because" not in page(plan(), run("diagnosed"), fix, at(20))
    mine = fix.model_copy(update={"on_findings": ("RoleLacksAccess",)})
    because = f"  because     RoleLacksAccess: {CAUSE}\n"
    assert because in page(plan(), run("diagnosed"), mine, at(20))
    assert because in page(plan("Helped"), run("resolved", findings=[]), mine, at(20))


def test_a_plan_that_ended_says_what_its_end_means() -> None:
    """In the words of the operations page."""
    shown = page(
        plan("Inconclusive", reason="PartlyApplied", message="2/2 failed", finishedAt=at(9)), None, None, at(20)
    )
    assert "  ended       PartlyApplied: A later call failed; the calls before it stay in place." in shown


@pytest.mark.parametrize(
    ("service", "operation", "told"),
    [
        ("iam", "create_policy_version", "aws iam create-policy-version"),
        ("s3", "put_bucket_policy", "aws s3api put-bucket-policy"),
        ("postgres", "terminate_backends", "postgres terminate-backends"),
    ],
)
def test_a_call_is_named_as_its_command_line_has_it(service: str, operation: str, told: str) -> None:
    """And nobody is told that the AWS CLI can end a session of PostgreSQL."""
    call = plan().spec.calls[0].model_copy(update={"service": service, "operation": operation})
    assert command(call) == told


def test_what_can_not_be_undone_says_why() -> None:
    """Irreversible plans have no undo to show."""
    shown = page(plan(spec={"undo": None, "irreversible": "connections are closed"}), None, None, at(20))
    assert "    can't be undone: connections are closed" in shown


def test_no_secret_is_shown() -> None:
    """References name the Secret; a value that should not be there is hidden, also inside a document."""
    call = {
        "service": "rds",
        "operation": "modify_db_instance",
        "arguments": {
            "MasterUserPassword": {"secretKeyRef": {"name": "shopsmart-db", "key": "password"}},
            "Password": "hunter2",
            "Environment": '{"DB_PASSWORD": "hunter3", "URL": "postgres://shop:hunter4@db/orders"}',
        },
        "repeat": "Once",
        "timeout": "10s",
    }
    diff = [{"what": "environment", "before": '{"DB_PASSWORD": "hunter5"}', "after": "password=hunter6"}]
    shown = page(plan(spec={"calls": [call], "diff": diff}), None, None, at(20))
    assert "hunter" not in shown
    assert "MasterUserPassword: <key password of Secret shopsmart-db>" in shown


def test_the_newest_plan_of_each_fix_is_shown_unless_asked_otherwise() -> None:
    """Superseded attempts are history: by name or with --all."""
    old = plan("Superseded")
    new = plan(spec={"attempt": 2})
    new = new.model_copy(update={"metadata": new.metadata.model_copy(update={"name": "second"})})
    names = [
        [p.metadata.name for p in chosen((new, old), name=name, every=every)]
        for name, every in ((None, False), (None, True), (PLAN, False), ("restoreAccess", False), ("other", False))
    ]
    assert names == [["second"], [PLAN, "second"], [PLAN], [PLAN, "second"], []]
