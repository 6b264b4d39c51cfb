"""Make the partner's user with its key, the bucket for evidence, and the operator's role for both."""

from pathlib import Path

from .. import policies
from ..policies import allow, document
from ..seed import key_of, make_bucket, make_role, make_user
from ..shop import DEFAULT_ACCOUNT, Shop

#: The partner whose key leaks, and the operator's own role for such keys.
PARTNER = "partner-feed"
REMEDIATION = "IncidentOperatorSecurity"
#: From where the scraper calls, and from where the shop's own do.
SCRAPER, OWN = "203.0.113.7", "10.0.4.20"
OWN_NETWORKS = ("10.0.0.0/16",)


def evidence_bucket(shop: Shop) -> str:
    """Return the bucket's name. Bucket names are global: each account has its own."""
    return "shopsmart-security-evidence" + ("" if shop.account == DEFAULT_ACCOUNT else f"-{shop.account}")


def seed(shop: Shop, state_dir: Path) -> Shop:
    """Make all that is not there beside a seeded shop, write `shop.json`, return the shop with the partner's key."""
    for part in (bucket, people):
        part(shop)
    seeded = shop.with_keys({PARTNER: key_of(shop, PARTNER, PARTNER)})
    seeded.save(state_dir)
    return seeded


def bucket(shop: Shop) -> None:
    """The bucket for evidence, which nobody may read but the account's own."""
    make_bucket(shop, evidence_bucket(shop))


def people(shop: Shop) -> None:
    """The partner's user, which may do more than it should, and the operator's role."""
    iam = shop.client("iam")
    make_user(shop, PARTNER)
    user = shop.user_arn(PARTNER)
    feeding = document(
        allow("Feed", ["dynamodb:Scan", "dynamodb:DescribeTable"], shop.table_arn),
        # What lets a leaked key become two.
        allow("OwnKeys", ["iam:CreateAccessKey", "iam:ListAccessKeys"], user),
    )
    iam.put_user_policy(UserName=PARTNER, PolicyName="feed", PolicyDocument=policies.text(feeding))
    evidence = f"arn:aws:s3:::{evidence_bucket(shop)}"
    walls = [f"arn:aws:wafv2:{shop.region}:{shop.account}:regional/{kind}/partners-*" for kind in ("ipset", "webacl")]
    fixing = document(
        allow("Walls", ["wafv2:UpdateIPSet", "wafv2:UpdateWebACL"], walls),
        allow("Keys", ["iam:UpdateAccessKey"], f"arn:aws:iam::{shop.account}:user/partner-*"),
        allow("Users", ["iam:PutUserPolicy", "iam:DeleteUserPolicy"], f"arn:aws:iam::{shop.account}:user/partner-*"),
        allow("Roles", ["iam:PutRolePolicy", "iam:DeleteRolePolicy"], f"arn:aws:iam::{shop.account}:role/partner-*"),
        allow("ApiKeys", ["apigateway:PATCH"], f"arn:aws:apigateway:{shop.region}::/apikeys/*"),
        allow("Evidence", ["s3:PutObject"], [f"{evidence}/cloudtrail/*", f"{evidence}/api-requests/*"]),
    )
    make_role(shop, REMEDIATION, policies.trust(principal=shop.user_arn("incident-operator")), fixing)
    role = f"arn:aws:iam::{shop.account}:role/{REMEDIATION}"
    assuming = policies.text(document(allow("AssumeSecurity", ["sts:AssumeRole"], role)))
    iam.put_user_policy(UserName="incident-operator", PolicyName="security", PolicyDocument=assuming)


def key_active(shop: Shop) -> None:
    """The partner's own key, active, and no other."""
    iam, own = shop.client("iam"), shop.keys[PARTNER].access_key_id
    for key in iam.list_access_keys(UserName=PARTNER)["AccessKeyMetadata"]:
        if key["AccessKeyId"] != own:
            iam.delete_access_key(UserName=PARTNER, AccessKeyId=key["AccessKeyId"])
        elif key["Status"] != "Active":
            iam.update_access_key(UserName=PARTNER, AccessKeyId=own, Status="Active")
