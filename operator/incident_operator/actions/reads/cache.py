"""ElastiCache: replication groups, their nodes, and what happened to them."""

import re
from collections.abc import Mapping
from typing import Any

from .listed import ListedRead

_NODE = r"[A-Za-z0-9-]{1,50}"
_EVENTS = (
    (
        "FailoverCompleted",
        re.compile(rf"Failover from (?:master|primary) node ({_NODE}) to replica node ({_NODE}) compl"),
    ),
    ("FailoverRequested", re.compile(r"Test Failover API called for node group ([0-9]{1,4})\b()")),
)


def _groups(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep status, roles and addresses."""
    return [
        {
            "id": group["ReplicationGroupId"],
            "arn": group.get("ARN", ""),
            "status": group.get("Status", ""),
            "automaticFailover": group.get("AutomaticFailover", ""),
            "clusterEnabled": bool(group.get("ClusterEnabled", False)),
            "nodeGroups": [_node_group(part) for part in group.get("NodeGroups", ())],
        }
        for group in answer.get("ReplicationGroups", ())
    ]


def _node_group(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": part.get("NodeGroupId", ""),
        "status": part.get("Status", ""),
        "primaryEndpoint": _endpoint(part.get("PrimaryEndpoint")),
        "members": [
            {
                "id": member["CacheClusterId"],
                "role": member.get("CurrentRole"),
                "zone": member.get("PreferredAvailabilityZone"),
                "endpoint": _endpoint(member.get("ReadEndpoint")),
            }
            for member in part.get("NodeGroupMembers", ())
        ],
    }


def _endpoint(found: Mapping[str, Any] | None) -> str | None:
    return f"{found['Address']}:{found['Port']}" if found and "Address" in found else None


def _clusters(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep id, status and kind of each node."""
    return [
        {
            "id": cluster["CacheClusterId"],
            "status": cluster.get("CacheClusterStatus", ""),
            "type": cluster.get("CacheNodeType", ""),
            "engineVersion": cluster.get("EngineVersion", ""),
            "replicationGroup": cluster.get("ReplicationGroupId"),
        }
        for cluster in answer.get("CacheClusters", ())
    ]


def _events(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep what is of known grammar; of any other message only that there was one (decision 19)."""
    kept = []
    for event in answer.get("Events", ()):
        entry = {"at": event.get("Date"), "source": event.get("SourceIdentifier", ""), "kind": "Other"}
        for kind, pattern in _EVENTS:
            if found := pattern.search(event.get("Message", "")):
                entry |= {"kind": kind, "first": found[1], "second": found[2] or None}
        kept.append(entry)
    return kept


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("elasticache", "describe_replication_groups"): ListedRead(
        permissions=("elasticache:DescribeReplicationGroups",),
        project=_groups,
        items="ReplicationGroups",
        missing=("ReplicationGroupNotFoundFault", "ReplicationGroupNotFound"),
    ),
    ("elasticache", "describe_cache_clusters"): ListedRead(
        permissions=("elasticache:DescribeCacheClusters",),
        project=_clusters,
        items="CacheClusters",
        missing=("CacheClusterNotFound", "CacheClusterNotFoundFault"),
    ),
    ("elasticache", "describe_events"): ListedRead(
        permissions=("elasticache:DescribeEvents",), project=_events, items="Events", bound=300
    ),
}
