"""ElastiCache: replication groups of real Valkey nodes with real replication, and failovers that swap their roles.

moto keeps no roles, no nodes and no events, so nothing is left to it. Source: facts on AWS, section 3, and the
ElastiCache API reference (TestFailover: its events, and fifteen node groups in a rolling 24 hours).

What an application resolves once and keeps is a node's address; the primary endpoint (`dev.aws.gate`) leads to whoever
is the primary when somebody connects.
"""

import contextlib
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev import databases
from dev.loopback import address, free_ports
from dev.processes import wait_until

from ..gate import Gate, Gates
from ..identity import Principal
from ..permissions import Need
from ..wire import Call, Refused, Reply
from .service import Handler, Needs, Parts, Service

#: How long AWS takes, unscaled: to make a group, to fail over and be available again, to replace a lost node, and to
#: notice that a primary is gone.
CREATING = timedelta(minutes=1)
FAILING_OVER = timedelta(minutes=1)
RECOVERING = timedelta(minutes=2)
NOTICING = timedelta(seconds=60)
#: TestFailover: so many node groups in so long.
TESTS, TESTS_WINDOW = 15, timedelta(hours=24)
_NODE_GROUP = "0001"
_LOOK_SECONDS = 0.3
#: A node that is gone refuses at once; one that is slow has a busy machine, and is not to be failed over from.
_ANSWER_SECONDS = 5.0
_SYNC_SECONDS = 15.0
_EVENTS_WINDOW = timedelta(hours=1)


@dataclass(kw_only=True)
class Node:
    """One node. Shape: `place` stays, whatever runs there; `running` ends the server that does."""

    id: str
    zone: str
    host: str
    port: int
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        """Start, or start again, the server; a replica's first copy waits for no others."""
        self.running.close()
        arguments = ("--repl-diskless-sync-delay", "0")
        self.running.enter_context(databases.valkey(self.host, port=self.port, arguments=arguments))

    @contextlib.contextmanager
    def client(self) -> "Iterator[redis.Redis]":
        """Yield a client that tries once."""
        with redis.Redis(
            host=self.host,
            port=self.port,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as client:
            yield client

    def answers(self) -> bool:
        """Tell whether the server answers."""
        with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
            return bool(client.ping())
        return False

    def follow(self, primary: "Node | None") -> None:
        """Make the server a replica of another, or a primary. Errors: redis.RedisError."""
        with self.client() as client:
            if primary is None:
                client.replicaof("NO", "ONE")
            else:
                client.replicaof(primary.host, str(primary.port))

    def is_in_sync(self) -> bool:
        """Tell whether the server has all that its primary has."""
        with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")
        return False


@dataclass(kw_only=True)
class Group:
    """One replication group with one node group. Shape: `primary` is one of `nodes`."""

    account: str
    region: str
    id: str
    description: str
    node_type: str
    automatic_failover: bool
    multi_az: bool
    nodes: tuple[Node, ...]
    primary: Node
    gate: Gate
    status: str = "creating"
    events: list[tuple[datetime, str, str, str]] = field(default_factory=list)
    deleted: threading.Event = field(default_factory=threading.Event)

    @property
    def arn(self) -> str:
        """The group's ARN."""
        return f"arn:aws:elasticache:{self.region}:{self.account}:replicationgroup:{self.id}"

    @property
    def replicas(self) -> tuple[Node, ...]:
        """All nodes but the primary."""
        return tuple(node for node in self.nodes if node is not self.primary)

    def state(self) -> dict[str, Any]:
        """Return what a change can change, without what comes and goes by itself."""
        return {
            "roles": {node.id: "primary" if node is self.primary else "replica" for node in self.nodes},
            "automaticFailover": self.automatic_failover,
            "nodeType": self.node_type,
        }

    def described(self) -> dict[str, Any]:
        """Return the group as the API does."""
        return {
            "ReplicationGroupId": self.id,
            "Description": self.description,
            "Status": self.status,
            "ARN": self.arn,
            "AutomaticFailover": "enabled" if self.automatic_failover else "disabled",
            "MultiAZ": "enabled" if self.multi_az else "disabled",
            "ClusterEnabled": False,
            "CacheNodeType": self.node_type,
            "Engine": "valkey",
            "MemberClusters": [node.id for node in self.nodes],
            "NodeGroups": [
                {
                    "NodeGroupId": _NODE_GROUP,
                    "Status": self.status,
                    "PrimaryEndpoint": _endpoint(*self.gate.place),
                    "NodeGroupMembers": [
                        {
                            "CacheClusterId": node.id,
                            "CacheNodeId": "0001",
                            "ReadEndpoint": _endpoint(node.host, node.port),
                            "PreferredAvailabilityZone": node.zone,
                            "CurrentRole": "primary" if node is self.primary else "replica",
                        }
                        for node in self.nodes
                    ],
                }
            ],
        }


def _endpoint(host: str, port: int) -> dict[str, Any]:
    return {"Address": host, "Port": port}


class ElastiCache(Service):
    """Replication groups, by account and region.

    What takes time is done in threads that hold no lock while they wait: each group has one that looks after it.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._tests: dict[tuple[str, str], list[datetime]] = {}
        self._gates: Gates | None = None
        self._threads: list[threading.Thread] = []

    # --- what the simulator asks ------------------------------------------------------------------------------

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return the calls that are answered here."""
        made = {
            "CreateReplicationGroup": self._create,
            "DescribeReplicationGroups": self._describe,
            "DescribeCacheClusters": self._describe_clusters,
            "DescribeEvents": self._describe_events,
            "TestFailover": self._test_failover,
            "ModifyReplicationGroup": self._modify,
            "DeleteReplicationGroup": self._delete,
        }
        return {("elasticache", name): lambda c, p, _, do=do: do(c, p) for name, do in made.items()}

    def needs(self) -> Mapping[str, Needs]:
        """Return the action on the group; reading without naming one needs it on all."""

        def of(call: Call, account: str) -> Iterator[Need]:
            name = call.arguments.get("ReplicationGroupId")
            arn = f"arn:aws:elasticache:{call.region}:{account}:replicationgroup:{name.lower()}" if name else "*"
            yield Need(action=f"elasticache:{call.operation}", resource=arn)

        return {"elasticache": of}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return roles and settings of the account's groups."""
        found = {
            f"{region}/{name}": group.state()
            for (owner, region, name), group in sorted(self._groups.items())
            if owner == account
        }
        return {"replicationGroups": found} if found else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return the group that a call is about."""
        name = call.arguments.get("ReplicationGroupId")
        if call.service != "elasticache" or not name:
            return None
        group = self._groups.get((account, call.region, name.lower()))
        return group.state() if group else None

    def close(self) -> None:
        """End every node and endpoint."""
        for group in self._groups.values():
            group.deleted.set()
        for thread in self._threads:
            thread.join(30)
        if self._gates is not None:
            self._gates.close()

    # --- calls ------------------------------------------------------------------------------------------------

    def _group(self, call: Call, principal: Principal) -> Group:
        name = call.arguments["ReplicationGroupId"]
        group = self._groups.get((principal.account, call.region, name.lower()))
        if group is None:
            message = f"ReplicationGroup {name} not found."
            raise Refused("ReplicationGroupNotFoundFault", message, status=404)
        return group

    def _available(self, call: Call, principal: Principal) -> Group:
        group = self._group(call, principal)
        if group.status != "available":
            message = f"Replication group {group.id} is not in available state; its status is {group.status}."
            raise Refused("InvalidReplicationGroupState", message)
        return group

    def _create(self, call: Call, principal: Principal) -> Reply:
        asked = call.arguments
        name = asked["ReplicationGroupId"].lower()
        key = (principal.account, call.region, name)
        if key in self._groups:
            raise Refused("ReplicationGroupAlreadyExists", f"Replication group {name} already exists.")
        count = int(asked.get("NumCacheClusters") or 1 + int(asked.get("ReplicasPerNodeGroup") or 0))
        automatic = bool(asked.get("AutomaticFailoverEnabled"))
        if automatic and count < 2:
            message = "Automatic failover needs at least one replica."
            raise Refused("InvalidParameterCombination", message)
        host = address()
        nodes = tuple(
            Node(id=f"{name}-{n:03}", zone=f"{call.region}{'abcdef'[(n - 1) % 6]}", host=host, port=port)
            for n, port in enumerate(free_ports(host, count), 1)
        )
        self._gates = self._gates or Gates()

        def primary() -> tuple[str, int] | None:
            return (group.primary.host, group.primary.port)

        group = Group(
            account=principal.account,
            region=call.region,
            id=name,
            description=asked.get("ReplicationGroupDescription", ""),
            node_type=asked.get("CacheNodeType") or "cache.t4g.small",
            automatic_failover=automatic,
            multi_az=bool(asked.get("MultiAZEnabled")),
            nodes=nodes,
            primary=nodes[0],
            gate=self._gates.open(host, primary),
        )
        self._groups[key] = group
        self._begin(self._look_after, group)
        return call.answer({"ReplicationGroup": group.described()})

    def _describe(self, call: Call, principal: Principal) -> Reply:
        if call.arguments.get("ReplicationGroupId"):
            found = [self._group(call, principal)]
        else:
            found = [g for (a, r, _), g in sorted(self._groups.items()) if (a, r) == (principal.account, call.region)]
        return call.answer({"ReplicationGroups": [group.described() for group in found]})

    def _describe_clusters(self, call: Call, principal: Principal) -> Reply:
        wanted = call.arguments.get("CacheClusterId")
        found = [
            {
                "CacheClusterId": node.id,
                "CacheNodeType": group.node_type,
                "Engine": "valkey",
                "CacheClusterStatus": group.status,
                "NumCacheNodes": 1,
                "PreferredAvailabilityZone": node.zone,
                "ReplicationGroupId": group.id,
                "ARN": f"arn:aws:elasticache:{call.region}:{principal.account}:cluster:{node.id}",
            }
            for (account, region, _), group in sorted(self._groups.items())
            for node in group.nodes
            if (account, region) == (principal.account, call.region) and wanted in (None, node.id)
        ]
        if wanted and not found:
            raise Refused("CacheClusterNotFound", f"CacheCluster not found: {wanted}", status=404)
        return call.answer({"CacheClusters": found})

    def _describe_events(self, call: Call, principal: Principal) -> Reply:
        asked = call.arguments
        now = self.parts.clock.now()
        start, end = _instant(asked.get("StartTime")) or now - _EVENTS_WINDOW, _instant(asked.get("EndTime")) or now
        found = [
            {"SourceIdentifier": source, "SourceType": kind, "Message": message, "Date": at}
            for (account, region, _), group in self._groups.items()
            if (account, region) == (principal.account, call.region)
            for at, kind, source, message in group.events
            if start <= at <= end
            and asked.get("SourceType") in (None, kind)
            and asked.get("SourceIdentifier") in (None, source)
        ]
        return call.answer({"Events": sorted(found, key=lambda e: e["Date"], reverse=True)})

    def _test_failover(self, call: Call, principal: Principal) -> Reply:
        group = self._available(call, principal)
        if call.arguments["NodeGroupId"] != _NODE_GROUP:
            message = f"NodeGroup {call.arguments['NodeGroupId']} not found."
            raise Refused("NodeGroupNotFoundFault", message, status=404)
        if not group.automatic_failover:
            message = f"Automatic failover is not enabled for replication group {group.id}."
            raise Refused("InvalidReplicationGroupState", message)
        now, where = self.parts.clock.now(), (principal.account, call.region)
        since = now - self.parts.clock.scaled(TESTS_WINDOW)
        tests = [at for at in self._tests.get(where, []) if at > since]
        if len(tests) >= TESTS:
            message = f"You have exceeded the limit of {TESTS} test failovers in a rolling 24-hour period."
            raise Refused("APICallRateForCustomerExceeded", message)
        self._tests[where] = [*tests, now]
        self._say(group, "replication-group", group.id, f"Test Failover API called for node group {_NODE_GROUP}")
        self._fail_over(group, None)
        return call.answer({"ReplicationGroup": group.described()})

    def _modify(self, call: Call, principal: Principal) -> Reply:
        group, asked = self._available(call, principal), call.arguments
        known = {"ReplicationGroupId", "PrimaryClusterId", "AutomaticFailoverEnabled", "ApplyImmediately"}
        beyond = sorted(name for name, value in asked.items() if value is not None and name not in known)
        if beyond:
            raise Refused("InvalidParameterValue", f"the simulator can't modify {', '.join(beyond)}")
        if asked.get("AutomaticFailoverEnabled") is not None:
            group.automatic_failover = bool(asked["AutomaticFailoverEnabled"])
        wanted = asked.get("PrimaryClusterId")
        if wanted and wanted != group.primary.id:
            if group.automatic_failover:
                message = "Automatic failover must be turned off to change the primary cluster."
                raise Refused("InvalidParameterCombination", message)
            chosen = next((node for node in group.nodes if node.id == wanted), None)
            if chosen is None:
                raise Refused("CacheClusterNotFound", f"CacheCluster not found: {wanted}", status=404)
            self._fail_over(group, chosen)
        return call.answer({"ReplicationGroup": group.described()})

    def _delete(self, call: Call, principal: Principal) -> Reply:
        group = self._available(call, principal)
        group.status = "deleting"
        group.deleted.set()
        del self._groups[principal.account, call.region, group.id]
        return call.answer({"ReplicationGroup": group.described()})

    # --- what goes on by itself -------------------------------------------------------------------------------

    def _begin(self, do: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=do, args=arguments, name="elasticache", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _say(self, group: Group, kind: str, source: str, message: str) -> None:
        group.events.append((self.parts.clock.now(), kind, source, message))

    def _fail_over(self, group: Group, chosen: Node | None) -> None:
        group.status = "modifying"
        self._begin(self._swap, group, chosen)

    def _swap(self, group: Group, chosen: Node | None) -> None:
        """Make a replica the primary, the former primary its replica, and the group available again."""
        former = group.primary
        new = chosen or next((node for node in group.replicas if node.answers()), None)
        try:
            if new is None:
                return
            new.follow(None)
            with self.parts.lock:
                group.primary = new
                message = f"Failover from primary node {former.id} to replica node {new.id} completed"
                self._say(group, "replication-group", group.id, message)
                self._say(group, "cache-cluster", new.id, message)
            for node in group.replicas:
                # One that is gone is recovered by who looks after the group.
                with contextlib.suppress(redis.RedisError, OSError):
                    node.follow(new)
        finally:
            group.deleted.wait(self.parts.clock.scaled(FAILING_OVER).total_seconds())
            with self.parts.lock:
                group.status = "available"

    def _look_after(self, group: Group) -> None:
        """Start the nodes, then replace lost replicas and, where that is automatic, fail over from a lost primary."""
        try:
            for node in group.nodes:
                node.start()
            for node in group.replicas:
                node.follow(group.primary)
            wait_until(lambda: all(node.is_in_sync() for node in group.replicas), seconds=_SYNC_SECONDS)
            group.deleted.wait(self.parts.clock.scaled(CREATING).total_seconds())
            with self.parts.lock:
                group.status = "available"
            lost: dict[str, datetime] = {}
            while not group.deleted.wait(_LOOK_SECONDS):
                self._look(group, lost)
        finally:
            if self._gates is not None:
                self._gates.shut(group.gate)
            for node in group.nodes:
                node.running.close()

    def _look(self, group: Group, lost: dict[str, datetime]) -> None:
        """Look at each node. Shape: `lost` says since when a node gives no answer."""
        now, clock = self.parts.clock.now(), self.parts.clock
        for node in group.nodes:
            if node.answers():
                lost.pop(node.id, None)
                continue
            gone = now - lost.setdefault(node.id, now)
            if node is group.primary:
                with self.parts.lock:
                    fails = group.automatic_failover and group.status == "available" and bool(group.replicas)
                    if fails and gone >= clock.scaled(NOTICING):
                        self._fail_over(group, None)
            elif gone >= clock.scaled(RECOVERING):
                self._say(group, "cache-cluster", node.id, f"Recovering cache nodes {node.id}")
                try:
                    node.start()
                    node.follow(group.primary)
                except (redis.RedisError, OSError, RuntimeError):
                    traceback.print_exc()  # and tried again later, as AWS does
                    lost[node.id] = now
                    continue
                self._say(group, "cache-cluster", node.id, f"Finished recovery for cache nodes {node.id}")
                lost.pop(node.id, None)


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    at = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)
