"""Make the sessions' cache, or make it again what it was: looks first and writes only what differs."""

from botocore.exceptions import ClientError

from dev.processes import wait_until

from .. import policies
from ..seed import people
from ..shop import Key, Shop, ShopError
from .place import GROUP, NAMESPACE, cache

_SECONDS = 60.0
#: Who does what here: the host's own identity publishes, an engineer fails over.
_USERS = {
    "sessions": {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*"},
    "cache-admin": {
        "Effect": "Allow",
        "Action": [
            "elasticache:TestFailover",
            "elasticache:ModifyReplicationGroup",
            "elasticache:DescribeReplicationGroups",
        ],
        "Resource": "*",
    },
}


def seed(shop: Shop, *, automatic_failover: bool = True) -> Shop:
    """Make the group, its people and the operator's roles; return the shop with their keys."""
    people(shop)
    keys = {user: _user(shop, user, statement) for user, statement in _USERS.items() if user not in shop.keys}
    seeded = shop.with_keys(keys)
    replication_group(seeded, automatic_failover=automatic_failover)
    return seeded


def replication_group(shop: Shop, *, automatic_failover: bool = True) -> None:
    """The group: two nodes, available, the first one the primary."""
    client = shop.client("elasticache")
    try:
        found = client.describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ReplicationGroupNotFoundFault":
            raise
        found = client.create_replication_group(
            ReplicationGroupId=GROUP,
            ReplicationGroupDescription="Sessions and carts of the web tier",
            NumCacheClusters=2,
            AutomaticFailoverEnabled=automatic_failover,
            CacheNodeType="cache.r7g.large",
        )["ReplicationGroup"]
    _wait_available(shop)
    first = f"{GROUP}-001"
    if cache(shop).primary != first:
        client.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=False)
        client.modify_replication_group(ReplicationGroupId=GROUP, PrimaryClusterId=first, ApplyImmediately=True)
        _wait_available(shop)
        found["AutomaticFailover"] = "disabled"
    if (found["AutomaticFailover"] == "enabled") != automatic_failover:
        client.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=automatic_failover)


def _wait_available(shop: Shop) -> None:
    if not wait_until(lambda: cache(shop).status == "available", seconds=_SECONDS):
        raise ShopError(f"replication group {GROUP} is {cache(shop).status}, not available, after {_SECONDS:g} s")


def _user(shop: Shop, user: str, statement: dict[str, object]) -> Key:
    iam = shop.client("iam")
    try:
        iam.create_user(UserName=user)
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise
    iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(policies.document(statement)))
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return Key(access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"])


__all__ = ["NAMESPACE", "replication_group", "seed"]
