"""What can go wrong with the product images: each fault is done over the wire by who would do it."""

from collections.abc import Callable, Mapping
from typing import Any

from .. import policies
from ..faults import Fault
from ..shop import Shop
from . import seed

_SHUT = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def _becomes(changed: Callable[[Shop], policies.Document]) -> dict[str, Any]:
    """Return what is the same for every change of the policy by the media team."""

    def act(shop: Shop) -> None:
        client = shop.client("s3", seed.MEDIA)
        client.put_bucket_policy(Bucket=seed.bucket_of(shop), Policy=policies.text(changed(shop)))

    return {
        "actor": "user media",
        "parts": (seed.block, seed.tags, seed.policy),
        "is_broken": lambda shop: seed.read_policy(shop) == changed(shop),
        "act": act,
    }


def _shut(shop: Shop) -> None:
    """Block public access, then take away the statement that is of no use any more."""
    s3, name = shop.client_of_role("s3", "SecurityAudit", "quarterly-audit"), seed.bucket_of(shop)
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=_SHUT)
    s3.put_bucket_policy(Bucket=name, Policy=policies.text(seed.without_public_read(shop)))


def _is_shut(shop: Shop) -> bool:
    found = shop.client("s3").get_public_access_block(Bucket=seed.bucket_of(shop))["PublicAccessBlockConfiguration"]
    return bool(found == _SHUT)


def _audit(shop: Shop) -> None:
    s3 = shop.client_of_role("s3", "SecurityAudit", "quarterly-audit")
    s3.put_bucket_policy(Bucket=seed.bucket_of(shop), Policy=policies.text(seed.without_public_read(shop)))


def _untag(shop: Shop) -> None:
    s3 = shop.client("s3", seed.MEDIA)
    for key in seed.PRODUCTS:
        s3.delete_object_tagging(Bucket=seed.bucket_of(shop), Key=key)
    s3.put_bucket_policy(Bucket=seed.bucket_of(shop), Policy=policies.text(seed.without_public_read(shop)))


def _is_untagged(shop: Shop) -> bool:
    s3 = shop.client("s3")
    return not any(s3.get_object_tagging(Bucket=seed.bucket_of(shop), Key=k)["TagSet"] for k in seed.PRODUCTS)


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="inc-2023-0987",
            title="the images' policy lost public read: no picture loads",
            ticket="INC-2023-0987",
            example="s3-access.yaml",
            **_becomes(seed.without_public_read),
        ),
        Fault(
            name="images-explicit-deny",
            title="the images' policy refuses everybody in so many words",
            ticket="INC-2024-0305",
            example="s3-access.yaml",
            ends="Unresolved/NoFixApplies",
            **_becomes(seed.denying),
        ),
        Fault(
            name="images-blocked",
            title="an audit blocked the bucket's public access",
            ticket="INC-2024-0306",
            ends="Unresolved/NoFixApplies",
            actor="role SecurityAudit, which is protected",
            example="s3-access.yaml",
            parts=(seed.block, seed.tags, seed.policy),
            is_broken=_is_shut,
            act=_shut,
        ),
        Fault(
            name="images-audited",
            title="an audit took public read out of the images' policy",
            ticket="INC-2024-0307",
            ends="Unresolved/NoFixApplies",
            actor="role SecurityAudit, which is protected",
            example="s3-access.yaml",
            parts=(seed.block, seed.tags, seed.policy),
            is_broken=lambda shop: seed.read_policy(shop) == seed.without_public_read(shop),
            act=_audit,
        ),
        Fault(
            name="images-untagged",
            title="the images lost their tags, and the policy public read",
            ticket="INC-2024-0308",
            ends="Unresolved/NoFixApplies",
            actor="user media",
            example="s3-access.yaml",
            parts=(seed.block, seed.tags, seed.policy),
            is_broken=_is_untagged,
            act=_untag,
        ),
    )
}
