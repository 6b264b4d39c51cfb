"""Make the sessions' cache, or make it again what it was: looks first and writes only what differs."""

from botocore.exceptions import ClientError

from dev.processes import wait_until

from .. import policies
from ..seed import absent, key_of, people
from ..shop import Shop, ShopError
from .place import GROUP, NAMESPACE, answers, cache, is_in_sync

_SECONDS = 120.0
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
    for user, statement in _USERS.items():
        _user(shop, user, statement)
    seeded = shop.with_keys({user: key_of(shop, user, user) for user in _USERS})
    replication_group(seeded, automatic_failover=automatic_failover)
    return seeded


def replication_group(shop: Shop, *, automatic_failover: bool = True) -> None:
    """The group: two nodes, available, the first one the primary; one that is gone is replaced first, as AWS does."""
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
    first, now = f"{GROUP}-001", cache(shop)
    if not answers(now.nodes[now.primary]):
        found["AutomaticFailover"] = _promote(shop, now.replica)
    if cache(shop).primary != first:
        if not wait_until(lambda: is_in_sync(now.nodes[first]), seconds=_SECONDS, every=0.2):
            raise ShopError(f"node {first} was not replaced within {_SECONDS:g} s")
        found["AutomaticFailover"] = _promote(shop, first)
    if (found["AutomaticFailover"] == "enabled") != automatic_failover:
        client.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=automatic_failover)


def _promote(shop: Shop, node: str) -> str:
    """Make a replica the primary, which AWS does only without automatic failover; return that setting as it is now."""
    client = shop.client("elasticache")
    client.modify_replication_group(ReplicationGroupId=GROUP, AutomaticFailoverEnabled=False)
    client.modify_replication_group(ReplicationGroupId=GROUP, PrimaryClusterId=node, ApplyImmediately=True)
    _wait_available(shop)
    return "disabled"


def _wait_available(shop: Shop) -> None:
    if not wait_until(lambda: cache(shop).status == "available", seconds=_SECONDS):
        raise ShopError(f"replication group {GROUP} is {cache(shop).status}, not available, after {_SECONDS:g} s")


def _user(shop: Shop, user: str, statement: dict[str, object]) -> None:
    iam = shop.client("iam")
    try:
        iam.create_user(UserName=user)
    except ClientError as error:
        absent(error, "EntityAlreadyExists")
    iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(policies.document(statement)))


__all__ = ["NAMESPACE", "replication_group", "seed"]
