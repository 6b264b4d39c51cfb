"""The ActionGrant of the images' team: what its runs may read and change. `grant.yaml` is this, written out."""

from pathlib import Path
from typing import Any

from ..granting import a_grant, written
from ..shop import DEFAULT_ACCOUNT
from .seed import REMEDIATION

FILE = Path(__file__).with_name("grant.yaml")
HEADER = """\
# What runs in namespaces of the images' team may do to the bucket of product images.
# Written by `python -m dev.shop.images.grant`; a test compares the two.
"""


def grant(account: str = DEFAULT_ACCOUNT, label: str = "images", name: str = "product-images") -> dict[str, Any]:
    """Return the grant for one account and the namespaces with `shopsmart.com/team: <label>`."""
    return a_grant(
        account,
        name=name,
        label=label,
        description="The product images: the policy of their bucket, with two people's word.",
        role=REMEDIATION,
        resources=["arn:aws:s3:::shopsmart-product-images*"],
        protected=[f"arn:aws:iam::{account}:role/SecurityAudit"],
        actions=["aws.*", "cloudtrail.*", "iam.role-access", "s3.*"],
    )


if __name__ == "__main__":
    FILE.write_text(written(grant(), HEADER))
