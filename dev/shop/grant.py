"""The birthday team's ActionGrant: what its runs may read and change. `grant.yaml` is this, written out."""

from pathlib import Path
from typing import Any

from .granting import a_grant, written
from .shop import DEFAULT_ACCOUNT

FILE = Path(__file__).with_name("grant.yaml")
HEADER = """\
# What runs in namespaces of the birthday team may do to the birthday service.
# Written by `python -m dev.shop.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "birthday", name: str = "birthday-service") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    iam = f"arn:aws:iam::{account}"
    roles = [f"{iam}:role/lambda-execution-role", f"{iam}:role/service-role/*"]
    table = f"arn:aws:dynamodb:*:{account}:table/birthday-users"
    reading = {
        "actions": ["dynamodb:GetItem", "dynamodb:Query"],
        "resources": [table, f"{table}/index/*"],
    }
    templates = {"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::birthday-email-templates*/*"]}
    return a_grant(
        account,
        name=name,
        label=label,
        description="The birthday service: its functions, its roles, and the access it may be given back.",
        regions=["us-east-1", "eu-west-1"],
        resources=[f"arn:aws:lambda:*:{account}:function:*", *roles, f"{iam}:policy/Birthday*"],
        protected=[f"{iam}:role/SecurityAudit"],
        actions=["aws.*", "cloudtrail.*", "cloudwatch.*", "http.*", "iam.*", "lambda.*"],
        ask_up_to="Destructive",
        restorable={"access": [{"role": role, **access} for role in roles for access in (reading, templates)]},
    )


if __name__ == "__main__":
    FILE.write_text(written(grant(), HEADER))
