"""RDS: a change takes its time, waits for its window where it is not to be made at once, and a reboot can fail over.

moto keeps the records; it shows a change at once, never reboots and promotes nothing. Source: facts on AWS, 2 and 3.
An instance with the tag `shopsmart.com/address` is a real server: its endpoint is that address and its own port. As in
RDS itself, what is done inside of it is done as the instance's master user; a server that is gone is a failed instance.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import psycopg
from moto.rds.models import DBInstance, rds_backends

from ..identity import Principal
from ..permissions import Need
from ..wire import Call, Refused, Reply
from .service import Handler, Needs, Parts, Service

ADDRESS_TAG = "shopsmart.com/address"
#: Unscaled, of the order of real ones.
MODIFY = timedelta(minutes=8)
REBOOT = timedelta(minutes=2)
PROMOTE = timedelta(minutes=2)
#: What RDS offers for PostgreSQL here; moto knows no engine but Aurora's and Neptune's.
_OFFERED = tuple(
    f"db.{family}.{size}"
    for family in ("m5", "m6g", "r5", "r6g")
    for size in ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge")
)
_ENGINE = "postgres"
#: A server refuses twice in a row before its instance counts as failed: one that starts anew refuses for a moment.
_REFUSALS = 2
#: Settings whose change takes a while or an outage, by the API's name: moto's attribute.
_SLOW = {
    "DBInstanceClass": "db_instance_class",
    "MultiAZ": "multi_az",
    "AllocatedStorage": "allocated_storage",
    "EngineVersion": "engine_version",
}


def _address(instance: DBInstance) -> str:
    tagged = next((tag["Value"] for tag in instance.tags if tag["Key"] == ADDRESS_TAG), None)
    name: str = instance.db_instance_identifier
    return tagged or f"{name}.aaaaaaaaaa.{instance.region}.rds.amazonaws.com"


# moto computes it from the name alone.
DBInstance.address = property(_address)  # type: ignore[method-assign, assignment]


class Rds(Service):
    """DB instances."""

    beat = 0.5

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        #: How often in a row each real server has refused; of those that served when their instance was made.
        self._refused: dict[str, int] = {}

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto does too simply."""
        return {
            ("rds", "DescribeOrderableDBInstanceOptions"): self._orderable,
            ("rds", "ModifyDBInstance"): self._modify,
            ("rds", "RebootDBInstance"): self._reboot,
            ("rds", "CreateDBInstance"): self._create,
            ("rds", "CreateDBInstanceReadReplica"): self._replicate,
            ("rds", "PromoteReadReplica"): self._promote,
        }

    def needs(self) -> Mapping[str, Needs]:
        """Return what calls of RDS need: the action on the instance."""

        def of(call: Call, account: str) -> Iterator[Need]:
            name = call.arguments.get("DBInstanceIdentifier")
            arn = f"arn:aws:rds:{call.region}:{account}:db:{name}" if name else "*"
            yield Need(action=f"rds:{call.operation}", resource=arn)

        return {"rds": of}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return the instances' settings, by region and name."""
        found = {}
        for region, backend in rds_backends[account].items():
            for name, instance in backend.databases.items():
                found[f"{region}/{name}"] = _shown(instance)
        return {"rds": found} if found else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the instance that a call is about."""
        name = call.arguments.get("DBInstanceIdentifier")
        if call.service != "rds" or not name:
            return None
        instance = rds_backends[account][call.region].databases.get(name)
        return _shown(instance) if instance is not None else None

    @staticmethod
    def _orderable(call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Say which classes there are."""
        if call.arguments["Engine"] != _ENGINE:
            return forward()
        wanted = call.arguments.get("DBInstanceClass")
        offered = [name for name in _OFFERED if wanted in (None, name)]
        options = [{"Engine": _ENGINE, "DBInstanceClass": name, "MultiAZCapable": True} for name in offered]
        return call.answer({"OrderableDBInstanceOptions": options})

    def _modify(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Keep slow settings pending; with ApplyImmediately everything that is pending is made, not only this."""
        asked = {name: call.arguments[name] for name in _SLOW if name in call.arguments}
        if not asked:
            return forward()
        instance = self._available(call, principal)
        wanted = asked.get("DBInstanceClass")
        if wanted is not None and instance.engine == _ENGINE and wanted not in _OFFERED:
            raise Refused("InvalidParameterCombination", f"RDS does not support creating a DB instance with {wanted}.")
        kept = {name: getattr(instance, attribute) for name, attribute in _SLOW.items()}
        reply = forward()
        if reply.status >= 400:
            return reply
        for name, value in kept.items():
            setattr(instance, _SLOW[name], value)
        pending = {**getattr(instance, "pending_modified_values", {}), **asked}
        instance.pending_modified_values = pending
        if call.arguments.get("ApplyImmediately"):
            instance.status = "modifying"
            self.parts.delayed.later(MODIFY, lambda: _apply(instance, dict(pending)))
        return reply

    def _reboot(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Be away for a while; with ForceFailover come back in another zone."""
        instance = self._available(call, principal)
        failover = bool(call.arguments.get("ForceFailover"))
        if failover and not instance.multi_az:
            raise Refused("InvalidParameterCombination", "Failover requires Multi-AZ.")
        reply = forward()
        instance.status = "rebooting"

        def back() -> None:
            if failover:
                instance.availability_zone = _other_zone(instance.availability_zone, call.region)
            # Last: whoever sees it available sees it where it now is.
            instance.status = "available"

        self.parts.delayed.later(REBOOT, back)
        return reply

    def _create(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Look whether there is a server, too: such an instance fails when it goes."""
        reply = forward()
        if reply.status < 400:
            self._watch(principal.account, call.region, call.arguments["DBInstanceIdentifier"])
        return reply

    def _watch(self, account: str, region: str, name: str) -> None:
        instance = rds_backends[account][region].databases[name]
        if _is_real(instance) and not _refuses(instance):
            self._refused[f"{account}/{region}/{name}"] = 0

    def _replicate(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Make a record of its own of the replica: moto's copy has its source's tags."""
        reply = forward()
        if reply.status < 400:
            name = call.arguments["DBInstanceIdentifier"]
            replica = rds_backends[principal.account][call.region].databases[name]
            replica.tags = [dict(tag) for tag in call.arguments.get("Tags") or ()]
            replica.multi_az = bool(call.arguments.get("MultiAZ"))
            replica.backup_retention_period = 0
            replica.pending_modified_values = {}
            self._watch(principal.account, call.region, name)
        return reply

    def _promote(self, call: Call, principal: Principal, forward: Callable[[], Reply]) -> Reply:
        """Make a primary of a replica: the real server at once, its record when RDS is done with it."""
        instance = self._available(call, principal)
        source = instance.source_db_instance_identifier
        if source is None:
            raise Refused("InvalidDBInstanceState", "DB Instance is not a read replica.")
        if _is_real(instance):
            try:
                with _as_master(instance) as connection:
                    connection.execute("SELECT pg_promote(wait => false)")
            except psycopg.Error as error:
                message = f"the simulator can't promote the server: {error.sqlstate or type(error).__name__}"
                raise Refused("InvalidDBInstanceState", message) from None
        reply = forward()
        instance.status = "modifying"

        def done() -> None:
            instance.source_db_instance_identifier = None
            primary = rds_backends[principal.account][call.region].databases.get(source)
            if primary is not None:
                primary.remove_replica(instance)
            instance.status = "available"

        self.parts.delayed.later(PROMOTE, done)
        return reply

    def keep_house(self) -> None:
        """Notice servers that are gone. One that is slow to answer has a busy machine, and is not gone."""
        for account in list(rds_backends):
            for region, backend in list(rds_backends[account].items()):
                for name, instance in backend.databases.items():
                    key = f"{account}/{region}/{name}"
                    if key not in self._refused or instance.status != "available":
                        continue
                    self._refused[key] = self._refused[key] + 1 if _refuses(instance) else 0
                    if self._refused[key] >= _REFUSALS:
                        instance.status = "failed"

    @staticmethod
    def _available(call: Call, principal: Principal) -> Any:
        """Return the instance. Errors: Refused where there is none, or it is busy."""
        name = call.arguments["DBInstanceIdentifier"]
        instance = rds_backends[principal.account][call.region].databases.get(name)
        if instance is None:
            raise Refused("DBInstanceNotFound", f"DBInstance {name} not found.", status=404)
        if instance.status != "available":
            raise Refused("InvalidDBInstanceState", f"DB instance {name} is not in available state.")
        return instance


def _is_real(instance: Any) -> bool:
    return any(tag["Key"] == ADDRESS_TAG for tag in instance.tags)


def _refuses(instance: Any) -> bool:
    """Tell whether nothing listens at the instance's endpoint."""
    with contextlib.suppress(TimeoutError):
        try:
            socket.create_connection((_address(instance), int(instance.port)), timeout=0.2).close()
        except ConnectionRefusedError:
            return True
    return False


def _as_master(instance: Any) -> "psycopg.Connection[Any]":
    """Connect to the real server as the instance's master user. Errors: psycopg.Error."""
    return psycopg.connect(
        host=_address(instance),
        port=int(instance.port),
        user=instance.master_username,
        password=instance._master_user_password,  # moto shows it to nobody
        dbname="postgres",
        sslmode="disable",
        gssencmode="disable",
        autocommit=True,
        connect_timeout=5,
    )


def _apply(instance: Any, pending: Mapping[str, Any]) -> None:
    for name, value in pending.items():
        setattr(instance, _SLOW[name], value)
    instance.pending_modified_values = {}
    instance.status = "available"


def _other_zone(zone: str | None, region: str) -> str:
    return f"{region}b" if zone != f"{region}b" else f"{region}a"


def _shown(instance: Any) -> dict[str, Any]:
    return {
        "status": instance.status,
        "zone": instance.availability_zone,
        "pending": dict(getattr(instance, "pending_modified_values", {})),
        "replicaOf": instance.source_db_instance_identifier,
        **{name: getattr(instance, attribute) for name, attribute in _SLOW.items()},
    }
