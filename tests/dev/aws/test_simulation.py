"""iam:SimulatePrincipalPolicy agrees with what is enforced, and says which policy decides."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Account, allow, document


def simulate(account: Account, role: str, resource: str, *actions: str) -> dict[str, Any]:
    """Return the result per action."""
    asked = {"PolicySourceArn": role, "ActionNames": list(actions)}
    more = {"ResourceArns": [resource]} if resource else {}
    results = account.client("iam").simulate_principal_policy(**asked, **more)["EvaluationResults"]
    return {r["EvalActionName"]: r for r in results}


def test_each_pair_gets_its_decision_and_the_policy_that_makes_it(account: Account) -> None:
    """Allowed, denied implicitly, denied explicitly."""
    table = account.table()
    role = account.role(
        "app", allow("dynamodb:GetItem", table), document("Deny", "dynamodb:Delete*", "*"), path="/service-role/"
    )
    found = simulate(account, role, table, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem")
    assert {action: r["EvalDecision"] for action, r in found.items()} == {
        "dynamodb:GetItem": "allowed",
        "dynamodb:PutItem": "implicitDeny",
        "dynamodb:DeleteItem": "explicitDeny",
    }
    assert found["dynamodb:DeleteItem"]["MatchedStatements"][0]["SourcePolicyId"] == "role_app_inline1"
    assert found["dynamodb:PutItem"]["MatchedStatements"] == []
    assert "PermissionsBoundaryDecisionDetail" not in found["dynamodb:PutItem"]


def test_a_boundary_is_told_apart(account: Account) -> None:
    """What the policies allow and the boundary does not is denied, and the boundary is named."""
    role = account.role("app", allow("s3:*", "*"))
    iam = account.client("iam")
    bound = iam.create_policy(PolicyName="bound", PolicyDocument=json.dumps(allow("s3:Get*", "*")))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="app", PermissionsBoundary=bound)
    found = simulate(account, role, "arn:aws:s3:::b/o", "s3:GetObject", "s3:PutObject")
    detail = "PermissionsBoundaryDecisionDetail"
    assert found["s3:GetObject"]["EvalDecision"] == "allowed"
    assert found["s3:GetObject"][detail] == {"AllowedByPermissionsBoundary": True}
    assert found["s3:PutObject"]["EvalDecision"] == "implicitDeny"
    assert found["s3:PutObject"][detail] == {"AllowedByPermissionsBoundary": False}


def test_resource_policies_are_not_looked_at(account: Account) -> None:
    """As for roles in AWS: a table's own Allow or Deny does not show."""
    table = account.table()
    role = account.role("app", allow("dynamodb:GetItem", table))
    own = document("Deny", "dynamodb:GetItem", table, Principal={"AWS": role})
    account.client("dynamodb").put_resource_policy(ResourceArn=table, Policy=json.dumps(own))
    assert simulate(account, role, table, "dynamodb:GetItem")["dynamodb:GetItem"]["EvalDecision"] == "allowed"


def test_a_condition_without_its_value_does_not_hold_and_is_named(account: Account) -> None:
    """What was not given is listed as missing; given, it decides."""
    only = allow("s3:GetObject", "*", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})
    role = account.role("app", only)
    found = simulate(account, role, "", "s3:GetObject")["s3:GetObject"]
    assert (found["EvalDecision"], found["MissingContextValues"]) == ("implicitDeny", ["aws:SourceVpc"])
    entry = {"ContextKeyName": "aws:SourceVpc", "ContextKeyType": "string", "ContextKeyValues": ["vpc-1"]}
    given = account.client("iam").simulate_principal_policy(
        PolicySourceArn=role, ActionNames=["s3:GetObject"], ContextEntries=[entry]
    )
    assert given["EvaluationResults"][0]["EvalDecision"] == "allowed"


def test_a_principal_that_does_not_exist_is_not_found(account: Account) -> None:
    """Neither here nor in another account."""
    with pytest.raises(ClientError) as error:
        simulate(account, f"arn:aws:iam::{account.id}:role/absent", "", "s3:GetObject")
    assert error.value.response["Error"]["Code"] == "NoSuchEntity"
