"""The policy documents of the shop, as seeded and as the faults leave them."""

import json
from typing import Any

from incident_operator.actions.base import FixAction
from incident_operator.actions.catalogue import catalogue
from incident_operator.actions.reads import permissions
from incident_operator.actions.vantage import DOCUMENT, PROBE

from .shop import Shop

Document = dict[str, Any]


def document(*statements: Document) -> Document:
    """Return a policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(sid: str, actions: list[str], resources: list[str] | str, principal: str | None = None) -> Document:
    """Return a statement that allows; with a principal, for a resource's own policy."""
    whom = {"Principal": {"AWS": principal}} if principal else {}
    return {"Sid": sid, "Effect": "Allow", **whom, "Action": actions, "Resource": resources}


def text(policy: Document) -> str:
    """Return a document as it is sent."""
    return json.dumps(policy, sort_keys=True)


def read(policy: str) -> Any:
    """Return a document as it was stored."""
    return json.loads(policy)


# --- the function's role ----------------------------------------------------------------------------------------------


def service_access(shop: Shop) -> tuple[Document, Document]:
    """Return the two versions of the role's policy: before there were mails, and now."""
    reading = allow("ReadUsers", ["dynamodb:GetItem", "dynamodb:Query"], [shop.table_arn, f"{shop.table_arn}/index/*"])
    return document(reading, _logging(shop)), document(reading, _sending(shop), _logging(shop))


def service_access_without_table(shop: Shop) -> Document:
    """Return what INC-2023-1247's update made of it."""
    return document(_sending(shop), _logging(shop))


def _sending(shop: Shop) -> Document:
    identity = f"arn:aws:ses:{shop.region}:{shop.account}:identity/{shop.sender}"
    return allow("SendMail", ["ses:SendEmail"], identity)


def _logging(shop: Shop) -> Document:
    group = f"arn:aws:logs:{shop.region}:{shop.account}:log-group:/aws/lambda/{shop.function}:*"
    return allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], group)


# --- resources' own policies ------------------------------------------------------------------------------------------


def table_policy(shop: Shop) -> Document:
    """Return the table's policy: the only place that lets the function mark a user as greeted."""
    return document(allow("MarkGreeted", ["dynamodb:UpdateItem"], shop.table_arn, shop.role_arn))


def bucket_policy(shop: Shop) -> Document:
    """Return the bucket's policy: the only place that lets the function read a template."""
    reading = allow("BirthdayTemplates", ["s3:GetObject"], shop.objects_arn, shop.role_arn)
    return document(_uploading(shop), reading)


def bucket_policy_without_role(shop: Shop) -> Document:
    """Return what INC-2023-0892's change made of it."""
    return document(_uploading(shop))


def bucket_policy_denying(shop: Shop) -> Document:
    """Return a bucket policy that says no in so many words."""
    denied = {
        "Sid": "TemplatesUnderReview",
        "Effect": "Deny",
        "Principal": {"AWS": shop.role_arn},
        "Action": ["s3:GetObject"],
        "Resource": shop.objects_arn,
    }
    return document(_uploading(shop), denied)


def _uploading(shop: Shop) -> Document:
    return allow("MarketingUploads", ["s3:PutObject"], shop.objects_arn, shop.user_arn("deployer"))


# --- people and machines ----------------------------------------------------------------------------------------------


def trust(*, service: str | None = None, principal: str | None = None) -> Document:
    """Return a role's trust policy."""
    whom = {"Service": service} if service else {"AWS": principal}
    return document({"Effect": "Allow", "Principal": whom, "Action": "sts:AssumeRole"})


def users(shop: Shop) -> dict[str, Document]:
    """Return what each IAM user may do, by name."""
    function = [shop.function_arn, f"{shop.function_arn}:*"]
    roles = [f"arn:aws:iam::{shop.account}:role/{name}" for name in roles_of_operator(shop)]
    releases = (
        "UpdateFunctionCode UpdateFunctionConfiguration PublishVersion UpdateAlias GetAlias GetFunctionConfiguration"
    )
    policies = "CreatePolicyVersion GetPolicy GetPolicyVersion ListPolicyVersions"
    return {
        "incident-operator": document(allow("AssumeOnly", ["sts:AssumeRole"], roles)),
        "deployer": document(
            allow("Release", [f"lambda:{name}" for name in releases.split()], function),
            allow("ReleasePolicy", [f"iam:{name}" for name in policies.split()], shop.policy_arn),
        ),
        "sre": document(
            allow("Buckets", ["s3:GetBucketPolicy", "s3:PutBucketPolicy"], f"arn:aws:s3:::{shop.bucket}"),
            allow("Limits", ["lambda:GetFunctionConcurrency", "lambda:PutFunctionConcurrency"], function),
        ),
        "storefront": document(allow("Greet", ["lambda:InvokeFunction"], function)),
    }


def roles_of_operator(shop: Shop) -> dict[str, Document]:
    """Return what the operator's two roles may do: what the catalogue reads, and what its fixes call."""
    account = shop.account
    writes = sorted({p for action in catalogue().values() if isinstance(action, FixAction) for p in action.writes})
    resources = [
        f"arn:aws:lambda:*:{account}:function:*",
        f"arn:aws:iam::{account}:role/*",
        f"arn:aws:iam::{account}:policy/*",
        f"arn:aws:autoscaling:*:{account}:autoScalingGroup:*",
        f"arn:aws:elasticloadbalancing:*:{account}:targetgroup/*",
        f"arn:aws:rds:*:{account}:db:*",
        f"arn:aws:elasticache:*:{account}:replicationgroup:*",
        f"arn:aws:ec2:*:{account}:security-group/*",
    ]
    probed = [f"arn:aws:ssm:*:{account}:document/{DOCUMENT}", f"arn:aws:ec2:*:{account}:instance/*"]
    return {
        "IncidentOperatorRead": document(allow("Catalogue", list(permissions()), "*"), allow("Probe", [PROBE], probed)),
        "IncidentOperatorRemediation": document(
            allow("Fixes", writes, resources), allow("Look", list(permissions()), "*")
        ),
    }


def auditing(shop: Shop) -> Document:
    """Return what the SecurityAudit role may do to the shop."""
    actions = ["dynamodb:DeleteResourcePolicy", "dynamodb:GetResourcePolicy"]
    return document(allow("Tables", actions, shop.table_arn))
