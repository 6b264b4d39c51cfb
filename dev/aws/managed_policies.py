"""AWS-managed policies, each brought in when an account first names it: all of them at once would be slow."""

import json
from functools import cache
from typing import Any

from moto.iam.models import AWSManagedPolicy, iam_backends

from .wire import Call

_PREFIX = "arn:aws:iam::aws:policy/"


@cache
def _known() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    found: dict[str, Any] = json.loads(aws_managed_policies_data)
    return {f"{_PREFIX[:-1]}{data.get('Path', '/')}{name}": (name, data) for name, data in found.items()}


def bring_in(call: Call, account: str) -> None:
    """Let the account have the AWS-managed policy that a call names; an unknown one stays unknown."""
    for member in ("PolicyArn", "PermissionsBoundary"):
        arn = call.arguments.get(member)
        backend = iam_backends[account]["aws"]
        if isinstance(arn, str) and arn.startswith(_PREFIX) and arn not in backend.managed_policies and arn in _known():
            name, data = _known()[arn]
            policy = AWSManagedPolicy.from_data(name, account, "us-east-1", data)
            backend.managed_policies[arn] = policy
            backend.aws_managed_policies.append(policy)
