"""S3 where moto is more lenient than AWS: policies that are no policies, and policies enforced elsewhere."""

import json
from collections.abc import Callable

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from .wire import Call, Refused, Reply


def install() -> None:
    """Keep moto from judging bucket policies: it ignores who asks. `authorization` judges them."""
    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.PERMITTED  # type: ignore[method-assign]


def put_bucket_policy(call: Call, forward: Callable[[], Reply]) -> Reply:
    """Store a bucket policy that is one. Errors: Refused MalformedPolicy."""
    try:
        document = json.loads(call.arguments.get("Policy") or "")
    except ValueError:
        raise Refused("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not isinstance(statements, list | dict) or not statements:
        raise Refused("MalformedPolicy", "Missing required field Statement")
    for statement in statements if isinstance(statements, list) else [statements]:
        for names in (("Effect",), ("Principal", "NotPrincipal"), ("Action", "NotAction"), ("Resource", "NotResource")):
            if not any(name in statement for name in names):
                raise Refused("MalformedPolicy", f"Missing required field {names[0]}")
    return forward()
