"""Databases."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead


def _instance(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what decides of the one instance asked for. Shape: `pending` are names of settings, never their values."""
    (instance,) = answer["DBInstances"]
    endpoint, groups = instance.get("Endpoint") or {}, instance.get("VpcSecurityGroups") or ()
    return {
        "arn": instance["DBInstanceArn"],
        "status": instance["DBInstanceStatus"],
        "class": instance["DBInstanceClass"],
        "engine": instance["Engine"],
        "place": f"{endpoint['Address']}:{endpoint['Port']}" if endpoint.get("Address") else None,
        "pending": sorted(instance.get("PendingModifiedValues") or {}),
        "multiAz": bool(instance.get("MultiAZ")),
        "zone": instance.get("AvailabilityZone"),
        "replicas": sorted(instance.get("ReadReplicaDBInstanceIdentifiers") or ()),
        "replicaOf": instance.get("ReadReplicaSourceDBInstanceIdentifier"),
        "securityGroups": sorted(group["VpcSecurityGroupId"] for group in groups),
        "securityGroupsActive": all(group.get("Status") == "active" for group in groups),
        "backupDays": instance.get("BackupRetentionPeriod", 0),
    }


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("rds", "describe_db_instances"): ListedRead(
        permissions=("rds:DescribeDBInstances",),
        project=_instance,
        missing=("DBInstanceNotFound", "DBInstanceNotFoundFault"),
    ),
    ("rds", "describe_orderable_db_instance_options"): ListedRead(
        permissions=("rds:DescribeOrderableDBInstanceOptions",),
        project=lambda answer: sorted({option["DBInstanceClass"] for option in answer["OrderableDBInstanceOptions"]}),
        items="OrderableDBInstanceOptions",
    ),
}
