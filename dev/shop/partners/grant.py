"""The ActionGrant of the security team: what its runs may read and change. `grant.yaml` is this, written out."""

from pathlib import Path
from typing import Any

from ..granting import a_grant, written
from ..shop import DEFAULT_ACCOUNT
from .seed import REMEDIATION

FILE = Path(__file__).with_name("grant.yaml")
HEADER = """\
# What runs in namespaces of the security team may do to partners' keys, and where they write evidence.
# Written by `python -m dev.shop.partners.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "security", name: str = "partner-keys") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    return a_grant(
        account,
        name=name,
        label=label,
        description="Partners' access keys and API keys: disabled with a person's word, after the evidence is written.",
        role=REMEDIATION,
        resources=[
            f"arn:aws:iam::{account}:user/partner-*",
            f"arn:aws:iam::{account}:role/partner-*",
            "arn:aws:apigateway:us-east-1::/apikeys/*",
            f"arn:aws:wafv2:us-east-1:{account}:regional/*/partners-*",
            "arn:aws:s3:::shopsmart-security-evidence*/cloudtrail/*",
            "arn:aws:s3:::shopsmart-security-evidence*/api-requests/*",
        ],
        actions=[
            "apigateway.disable-key",
            "apigateway.key",
            "cloudtrail.*",
            "evidence.collect",
            "evidence.collect-requests",
            "iam.access-key",
            "iam.disable-credentials",
            "iam.key-persistence",
            "iam.quarantine-user",
            "iam.revoke-sessions",
            "waf.*",
        ],
        apply_up_to="Low",
    )


if __name__ == "__main__":
    FILE.write_text(written(grant(), HEADER))
