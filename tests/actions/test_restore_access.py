"""Give back what was taken, exactly; and leave alone what somebody meant to take."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from incident_operator.actions.awslambda import Denial
from incident_operator.actions.base import Unclear
from incident_operator.actions.iam import RestoreEffect, RestoreInputs, RestoreRoleAccess, RoleAccess
from incident_operator.actions.ports import NotFound
from incident_operator.actions.role_access import AccessFacts
from incident_operator.actions.traffic import Traffic
from incident_operator.api.grant import ActionGrant
from incident_operator.api.plan import Hazard, Repeat, Tier
from incident_operator.core.draft import NotApplicable, PlanDraft
from incident_operator.core.planning import hash_draft, reasons_to_ask, tier_of
from tests.actions.reader import DictReader
from tests.builders import NOW, a_grant

ROLE = "arn:aws:iam::123456789012:role/service/mailer"
POLICY = "arn:aws:iam::123456789012:policy/MailerAccess"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/people"
KEY = "arn:aws:kms:us-east-1:123456789012:key/8b7e8f0c"
OBJECT = "arn:aws:s3:::shop-templates/mails/birthday.html"
FIX, CHECK = RestoreRoleAccess(), RoleAccess()


def allows(*actions: str, resource: str = TABLE, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    """Return a policy of one statement."""
    return {"Statement": [{"Effect": effect, "Action": list(actions), "Resource": resource, **more}]}


def simulated(decision: str = "implicitDeny", **more: Any) -> Any:
    """Return what the simulation answers for every pair."""

    def answer(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        verdict = {"decision": decision, "policies": [], "allowedByBoundary": None, **more}
        return [{"action": a, "resource": "*", **verdict} for a in arguments["ActionNames"]]

    return answer


def event(name: str, actor: str, minutes: int = 20, **parameters: Any) -> dict[str, Any]:
    """Return a CloudTrail event as projected."""
    return {
        "name": name,
        "at": f"2026-01-15T14:{30 - minutes:02d}:00+00:00",
        "actor": actor,
        "source": "iam.amazonaws.com",
        "error": None,
        "readOnly": False,
        "parameters": parameters,
        "version": parameters.pop("version", None),
    }


DEPLOYER = "arn:aws:sts::123456789012:assumed-role/Deployer/ci"
AUDITOR = "arn:aws:sts::123456789012:assumed-role/SecurityAudit/eve"


def trail(**by_resource: list[dict[str, Any]]) -> Any:
    """Return what CloudTrail answers, by the end of the looked-up resource's name."""

    def answer(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        wanted = arguments["LookupAttributes"][0]["AttributeValue"]
        return next((events for name, events in by_resource.items() if wanted.endswith(name)), [])

    return answer


def a_reader(**answers: Any) -> DictReader:
    """Return a role without policies, denied by the simulation, whose resources have no policies of their own."""
    values: dict[str, Any] = {
        "iam.simulate_principal_policy": simulated(),
        "iam.list_attached_role_policies": [],
        "iam.get_role_policy": NotFound("none"),
        "dynamodb.get_resource_policy": NotFound("none"),
        "s3.get_bucket_policy": NotFound("none"),
        "kms.get_key_policy": NotFound("none"),
        "cloudtrail.lookup_events": [],
    }
    given = {name.replace("__", "."): answer for name, answer in answers.items()}
    return DictReader({**values, **given}, protected_actors=("arn:aws:iam::123456789012:role/SecurityAudit",))


def a_managed_policy(versions: Mapping[str, Any], *, attachments: int = 1, **more: Any) -> DictReader:
    """Return a role with one customer-managed policy; its highest version is the default."""
    current = max(versions)
    return a_reader(
        iam__list_attached_role_policies=[
            {"name": "AWSLambdaBasicExecutionRole", "arn": "arn:aws:iam::aws:policy/AWSLambdaBasicExecutionRole"},
            {"name": "MailerAccess", "arn": POLICY},
        ],
        iam__get_policy={"Arn": POLICY, "DefaultVersionId": current, "AttachmentCount": attachments},
        iam__list_policy_versions=[{"VersionId": v} for v in versions],
        iam__get_policy_version=lambda arguments: versions[arguments["VersionId"]],
        **more,
    )


def the_inputs(*denials: Denial, **inputs: Any) -> RestoreInputs:
    """Return inputs; the table's GetItem was denied, if nothing else is said."""
    denied = denials or (Denial(action="dynamodb:GetItem", resource=TABLE),)
    values = {"role_arn": ROLE, "function_name": "mailer", "alias": "LIVE", "region": "us-east-1", "denials": denied}
    return RestoreInputs(**{**values, **inputs})


def planned(reader: DictReader, inputs: RestoreInputs | None = None) -> PlanDraft:
    """Return the draft, having checked that looking twice plans the same."""
    inputs = inputs or the_inputs()
    draft = FIX.plan(inputs, FIX.observe(inputs, reader))
    assert isinstance(draft, PlanDraft)
    again = FIX.plan(inputs, FIX.observe(inputs, reader))
    assert isinstance(again, PlanDraft)
    assert hash_draft(draft, a_grant(), fix="restoreAccess") == hash_draft(again, a_grant(), fix="restoreAccess")
    return draft


def declined(reader: DictReader, inputs: RestoreInputs | None = None) -> NotApplicable:
    """Return why there is no plan."""
    inputs = inputs or the_inputs()
    answer = FIX.plan(inputs, FIX.observe(inputs, reader))
    assert isinstance(answer, NotApplicable)
    assert answer.reason in FIX.reasons
    return answer


def a_shop_grant(*resources: str, actions: tuple[str, ...] = ("dynamodb:GetItem",)) -> ActionGrant:
    """Return a grant that lets a machine restore these actions of the role on these resources."""
    access = [{"role": ROLE, "actions": list(actions), "resources": list(resources or (TABLE,))}]
    return a_grant(restorable={"access": access})


# --- the former version of the policy ---


def test_the_former_version_is_preferred_and_undone_exactly() -> None:
    """INC-2023-1247: the policy lost a statement; its former version is the fix, the present one the undo."""
    reader = a_managed_policy(
        {"v1": allows("dynamodb:GetItem", "dynamodb:Query"), "v2": allows("dynamodb:Query")},
        cloudtrail__lookup_events=trail(
            MailerAccess=[event("CreatePolicyVersion", DEPLOYER, setAsDefault=True, version="v2")]
        ),
    )
    draft = planned(reader)
    assert draft.undo is not None
    (call,), (back,) = draft.calls, draft.undo.calls
    assert (call.operation, call.arguments) == (
        "set_default_policy_version",
        {"PolicyArn": POLICY, "VersionId": "v1"},
    )
    assert back.arguments == {"PolicyArn": POLICY, "VersionId": "v2"}
    assert (call.resources, draft.touches, call.repeat) == ((POLICY,), (POLICY,), Repeat.ABSOLUTE)
    assert [(g.action, g.resource) for g in draft.grants] == [("dynamodb:GetItem", TABLE)]
    assert [r.actor for r in draft.removals] == [DEPLOYER]
    assert reasons_to_ask(draft, a_shop_grant()) == ()


def test_going_back_never_gives_more_than_the_grant_lets_a_machine_restore() -> None:
    """What else the former version gave counts too: a person decides, under the Security tier."""
    reader = a_managed_policy(
        {"v1": allows("dynamodb:GetItem", "iam:PassRole"), "v2": allows("dynamodb:Query")},
        cloudtrail__lookup_events=trail(
            MailerAccess=[event("CreatePolicyVersion", DEPLOYER, setAsDefault=True, version="v2")]
        ),
    )
    draft = planned(reader)
    assert {(g.action, g.resource) for g in draft.grants} == {("dynamodb:GetItem", TABLE), ("iam:PassRole", TABLE)}
    asks = reasons_to_ask(draft, a_shop_grant())
    assert asks == ("BeyondRestorable",)
    assert tier_of(draft, asks) == Tier.SECURITY


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(
            a_managed_policy({"v1": allows("dynamodb:GetItem"), "v2": allows("dynamodb:Query")}, attachments=2),
            id="another role has the policy too",
        ),
        pytest.param(a_managed_policy({"v1": allows("dynamodb:PutItem"), "v2": {}}), id="it never allowed it"),
        pytest.param(
            a_managed_policy(
                {"v1": allows("dynamodb:GetItem", Condition={"Bool": {"aws:SecureTransport": "true"}}), "v2": {}}
            ),
            id="it allowed it under a condition only",
        ),
        pytest.param(a_managed_policy({"v1": allows("dynamodb:GetItem", effect="Deny"), "v2": {}}), id="it denied it"),
    ],
)
def test_otherwise_exactly_what_was_denied_is_given_under_our_own_name(reader: DictReader) -> None:
    """One inline policy: the denied action, the exact ARN, nothing else; its deletion is the undo."""
    draft = planned(reader)
    (call,) = draft.calls
    assert call.operation == "put_role_policy"
    assert (call.arguments["RoleName"], call.resources) == ("mailer", (ROLE,))
    assert call.arguments["PolicyName"].startswith("incident-operator-")
    assert json.loads(call.arguments["PolicyDocument"])["Statement"] == [
        {"Effect": "Allow", "Action": ["dynamodb:GetItem"], "Resource": [TABLE]}
    ]
    assert draft.undo is not None
    assert draft.undo.calls[0].operation == "delete_role_policy"
    assert draft.undo.calls[0].arguments == {k: call.arguments[k] for k in ("RoleName", "PolicyName")}
    assert draft.hazards == (Hazard.GRANTS_ACCESS,)


# --- resources of every kind ---


@pytest.mark.parametrize(
    ("action", "resource", "policy_read", "arguments"),
    [
        ("dynamodb:Query", f"{TABLE}/index/by-mail", "dynamodb.get_resource_policy", {"ResourceArn": TABLE}),
        ("kms:Decrypt", KEY, "kms.get_key_policy", {"KeyId": KEY, "PolicyName": "default"}),
        ("s3:GetObject", OBJECT, "s3.get_bucket_policy", {"Bucket": "shop-templates"}),
    ],
)
def test_the_exact_arn_is_given_and_its_owners_policy_is_asked(
    action: str, resource: str, policy_read: str, arguments: dict[str, Any]
) -> None:
    """A table index, a customer-managed key, an object: the policy of table, key, bucket has a say."""
    reader = a_reader()
    draft = planned(reader, the_inputs(Denial(action=action, resource=resource)))
    assert [(g.action, g.resource) for g in draft.grants] == [(action, resource)]
    assert (policy_read, arguments) in [(name, given) for name, given, _ in reader.asked]


def test_a_denial_without_a_resource_is_given_as_declared() -> None:
    """Some services name no resource: what the run declares for the action is narrower than everything."""
    inputs = the_inputs(
        Denial(action="dynamodb:GetItem", resource="*"),
        required_access=({"actions": ["dynamodb:GetItem"], "resources": [TABLE]},),
    )
    assert [(g.action, g.resource) for g in planned(a_reader(), inputs).grants] == [("dynamodb:GetItem", TABLE)]


def test_a_denial_of_everything_is_never_given_by_a_machine() -> None:
    """Nothing declared: a person sees the plan, since `*` is in nobody's restorable list."""
    draft = planned(a_reader(), the_inputs(Denial(action="dynamodb:GetItem", resource="*")))
    assert "BeyondRestorable" in reasons_to_ask(draft, a_shop_grant(TABLE))


def test_a_forged_denial_asks() -> None:
    """Whoever can write to the log can't have access given: only what the grant lists is restorable."""
    forged = Denial(action="iam:CreateAccessKey", resource="arn:aws:iam::123456789012:user/mallory")
    draft = planned(a_reader(), the_inputs(forged))
    assert "BeyondRestorable" in reasons_to_ask(draft, a_shop_grant())


# --- what is not given back ---


def test_an_explicit_deny_is_not_worked_around() -> None:
    """An Allow can't beat it, and somebody wrote it: the finding names the policy."""
    reader = a_reader(iam__simulate_principal_policy=simulated("explicitDeny", policies=["Guardrail"]))
    assert declined(reader).reason == "ExplicitDeny"
    assert "Guardrail" in declined(reader).message
    (found,) = _found(reader)
    assert found.reason == "ExplicitDeny"


def test_a_bucket_that_denies_is_an_explicit_deny() -> None:
    """INC-2023-0892 as a Deny: the bucket's owner is told, nothing is given."""
    policy = allows("s3:GetObject", resource=f"{OBJECT[:-13]}*", effect="Deny", Principal={"AWS": ROLE})
    reader = a_reader(iam__simulate_principal_policy=simulated("allowed"), s3__get_bucket_policy=policy)
    answer = declined(reader, the_inputs(Denial(action="s3:GetObject", resource=OBJECT)))
    assert answer.reason == "ExplicitDeny"
    assert "shop-templates" in answer.message


def test_what_is_missing_is_given_though_something_else_is_denied() -> None:
    """Two causes: the Deny stays with its owner, the missing Allow is planned alone."""

    def answer(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        denied = OBJECT in arguments.get("ResourceArns", ())
        return simulated("explicitDeny" if denied else "implicitDeny")(arguments)  # type: ignore[no-any-return]

    both = (Denial(action="dynamodb:GetItem", resource=TABLE), Denial(action="s3:GetObject", resource=OBJECT))
    draft = planned(a_reader(iam__simulate_principal_policy=answer), the_inputs(*both))
    assert [g.resource for g in draft.grants] == [TABLE]


def test_a_boundary_is_not_passed() -> None:
    """Giving access would not help: say so instead."""
    reader = a_reader(iam__simulate_principal_policy=simulated(allowedByBoundary=False))
    assert declined(reader).reason == "BoundaryDenies"
    assert _found(reader)[0].reason == "BoundaryDenies"


def test_nothing_is_missing() -> None:
    """The role has the access: denials in the log are of the past."""
    reader = a_reader(iam__simulate_principal_policy=simulated("allowed"))
    assert declined(reader).reason == "NothingMissing"
    assert _found(reader) == []


def test_a_protected_actor_meant_it() -> None:
    """INC-2023-1456: the audit took it away. The plan is shown, the machine never applies it."""
    gave = allows("dynamodb:GetItem", Principal={"AWS": ROLE})
    left = allows("dynamodb:Query", Principal={"AWS": ROLE})
    events = [
        event("PutResourcePolicy", AUDITOR, 20, policy=left),
        event("PutResourcePolicy", DEPLOYER, 29, policy=gave),
    ]
    reader = a_reader(dynamodb__get_resource_policy=left, cloudtrail__lookup_events=trail(people=events))
    (found,) = _found(reader)
    assert (found.reason, found.actor) == ("AccessRemovedOnPurpose", AUDITOR)
    draft = planned(reader)
    asks = reasons_to_ask(draft, a_shop_grant())
    assert "AccessRemovedOnPurpose" in asks
    assert tier_of(draft, asks) == Tier.SECURITY


def test_while_nobody_is_known_to_have_taken_it_the_machine_asks() -> None:
    """CloudTrail is late: Inconclusive with what was found, to be looked at again."""
    reader = a_reader()
    answer = CHECK.findings(the_inputs(), CHECK.observe(the_inputs(), reader))
    assert isinstance(answer, Unclear)
    assert answer.reason == "ActorUnknown"
    assert answer.retry_at is not None
    assert [f.reason for f in answer.found] == ["RoleLacksPermission"]
    assert "ActorUnknown" in reasons_to_ask(planned(reader), a_shop_grant())


def _found(reader: DictReader) -> list[Any]:
    answer = CHECK.findings(the_inputs(), CHECK.observe(the_inputs(), reader))
    assert not isinstance(answer, Unclear)
    return list(answer)


# --- after the calls ---


def test_the_probe_is_a_once_call_of_the_plan() -> None:
    """Decision 21: no probe event, no invocation; with one, once, last, under the plan's approval."""
    assert [c.repeat for c in planned(a_reader()).calls] == [Repeat.ABSOLUTE]
    draft = planned(a_reader(), the_inputs(probe_event={"dryRun": True}))
    assert [(c.operation, c.repeat) for c in draft.calls] == [
        ("put_role_policy", Repeat.ABSOLUTE),
        ("invoke", Repeat.ONCE),
    ]
    assert draft.calls[1].resources[0] == "arn:aws:lambda:us-east-1:123456789012:function:mailer"


@pytest.mark.parametrize(
    ("invocations", "denials", "outcome", "measured"),
    [
        (3, (), "Helped", True),
        (2, (), None, False),
        (None, (), None, False),
        (9, (Denial(action="dynamodb:GetItem", resource=TABLE),), None, True),
        (9, (Denial(action="s3:GetObject", resource=OBJECT),), "Helped", True),
    ],
)
def test_invocations_without_the_denial_prove_it(
    invocations: float | None, denials: tuple[Denial, ...], outcome: str | None, measured: bool
) -> None:
    """Too few are no proof either way; denials of something else are another finding."""
    before = FIX.observe(the_inputs(), a_reader())
    after = RestoreEffect(traffic=Traffic(invocations=invocations), denials=denials)
    judgement = FIX.judge(the_inputs(), before, after)
    assert (judgement.outcome, judgement.measured) == (outcome, measured)


def test_an_interrupted_call_is_seen_by_the_access_itself() -> None:
    """After a crash: given back or not is what the simulation says; a probe leaves no trace."""
    missing, given = FIX.observe(the_inputs(), a_reader()), AccessFacts(looked_at=NOW)
    draft = planned(a_reader(), the_inputs(probe_event={}))
    put, probe = draft.calls
    assert draft.undo is not None
    assert [FIX.applied(put, the_inputs(), facts) for facts in (missing, given)] == [False, True]
    assert [FIX.applied(draft.undo.calls[0], the_inputs(), facts) for facts in (missing, given)] == [True, False]
    assert FIX.applied(probe, the_inputs(), given) is None


def test_too_early_to_judge_reads_nothing() -> None:
    """Policies take a minute to be known everywhere: before that there is nothing to look at."""
    reader = DictReader({}, since=NOW - timedelta(seconds=60), now=NOW)
    assert FIX.measure(the_inputs(), reader).traffic.invocations is None
    assert reader.asked == []
