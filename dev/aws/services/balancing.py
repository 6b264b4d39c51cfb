"""Application Load Balancers: target health by real HTTP requests, and listeners that really forward.

A load balancer has a loopback address of its own, which is its DNSName, so that `http://{DNSName}:{port}/` answers.
Listeners forward what they get to the target group of their default action; rules decide nothing here. Requests go to
healthy targets, one after another; where none is healthy, to all that are registered, as ALB fails open.

Health checks run at the group's interval, scaled; timeouts are never scaled. States and reasons are AWS's own.
Source: "Health checks for Application Load Balancer target groups", "Troubleshoot your Application Load Balancers".
"""

import http.client
import ipaddress
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from moto.ec2.models import ec2_backends
from moto.elbv2.models import ELBv2Backend, elbv2_backends

from ..identity import Principal
from ..permissions import Need
from ..telemetry import METRICS_DELAY
from ..wire import Call, Refused, Reply
from .firewall import Firewall, Request
from .forwarding import Forwarder, Route
from .instances import hold_address
from .service import Forward, Handler, Needs, Parts, Service
from .waf import firewall_of

_GAUGES = timedelta(seconds=60)
_NAMESPACE = "AWS/ApplicationELB"
_SAID = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Elb.InitialHealthChecking": "Initial health checks in progress",
    "Target.Timeout": "Request timed out",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.InvalidState": "Target is in the stopped state",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.HealthCheckDisabled": "Health checks are disabled",
}


@dataclass(frozen=True, kw_only=True)
class Health:
    """What DescribeTargetHealth says of a target. Shape: `reason` and `description` are empty for a healthy one."""

    state: str
    reason: str = ""
    description: str = ""


def _because(state: str, reason: str) -> Health:
    return Health(state=state, reason=reason, description=_SAID[reason])


@dataclass(kw_only=True)
class Checked:
    """A registered target and how its checks went. Shape: `row` counts equal results, up or down from zero."""

    port: int
    since: datetime
    health: Health = field(default_factory=lambda: _because("initial", "Elb.RegistrationInProgress"))
    row: int = 0
    due: datetime | None = None
    asking: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One health check to make."""

    address: str
    port: int
    path: str
    matcher: str
    timeout: float

    def run(self) -> Health:
        """Make it: healthy, or unhealthy with the reason."""
        if not ipaddress.ip_address(self.address).is_loopback:
            return _because("unhealthy", "Target.Timeout")  # nothing of the simulator leaves this machine
        connection = http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)
        try:
            connection.request("GET", self.path, headers={"User-Agent": "ELB-HealthChecker/2.0"})
            code = connection.getresponse().status
        except TimeoutError:
            return _because("unhealthy", "Target.Timeout")
        except (OSError, http.client.HTTPException):
            return _because("unhealthy", "Target.FailedHealthChecks")
        finally:
            connection.close()
        if is_expected(code, self.matcher):
            return Health(state="healthy")
        said = f"Health checks failed with these codes: [{code}]"
        return Health(state="unhealthy", reason="Target.ResponseCodeMismatch", description=said)


def is_expected(code: int, matcher: str) -> bool:
    """Tell whether a code is among those of a matcher, as in `200`, `200,302` or `200-299`."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= code <= int(high or low):
            return True
    return False


def checked_of(group: Any) -> dict[str, Checked]:
    """Return what is known of a group's registered targets, by id."""
    found: dict[str, Checked] = vars(group).setdefault("checked", {})
    return found


def draining_of(group: Any) -> dict[str, tuple[int, datetime]]:
    """Return a group's targets that are deregistering, by id: port, and until when."""
    found: dict[str, tuple[int, datetime]] = vars(group).setdefault("draining", {})
    return found


def health_of(group: Any, target: str) -> Health:
    """Return a target's health. The lock is held."""
    if target in draining_of(group):
        return _because("draining", "Target.DeregistrationInProgress")
    if target not in group.targets:
        return _because("unused", "Target.NotRegistered")
    if not group.load_balancer_arns:
        return _because("unused", "Target.NotInUse")
    if _stopped(group, target):
        return _because("unused", "Target.InvalidState")
    if not group.health_check_enabled:
        return _because("unavailable", "Target.HealthCheckDisabled")
    checked = checked_of(group).get(target)
    return checked.health if checked is not None else _because("initial", "Elb.RegistrationInProgress")


def deregister(group: Any, target: str, until: datetime) -> None:
    """Take a target out of a group; it drains until then. One that is not there is none to take out."""
    found = group.targets.pop(target, None)
    checked_of(group).pop(target, None)
    if found is not None:
        draining_of(group)[target] = int(found.get("Port") or group.port), until


def drain_delay(group: Any) -> timedelta:
    """Return how long a deregistered target drains, unscaled."""
    return timedelta(seconds=float(group.attributes["deregistration_delay.timeout_seconds"]))


def _instance(group: Any, target: str) -> Any:
    if not target.startswith("i-"):
        return None
    return ec2_backends[group.account_id][group.region_name].get_instance_by_id(target)


def _stopped(group: Any, target: str) -> bool:
    instance = _instance(group, target)
    return instance is not None and instance.state in ("stopped", "stopping")


def _address(group: Any, target: str) -> str:
    instance = _instance(group, target)
    return str(instance.private_ip) if instance is not None else target


class Balancing(Service):
    """Checks targets and forwards requests."""

    beat = 0.05

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="health-check")
        self._forwarder = Forwarder(count=self._count)
        self._gauged: datetime | None = None
        made = ELBv2Backend.create_load_balancer

        def create_load_balancer(backend: Any, *arguments: Any, **named: Any) -> Any:
            balancer = made(backend, *arguments, **named)
            if getattr(balancer, "hold", None) is None:
                _place(balancer)
            return balancer

        ELBv2Backend.create_load_balancer = create_load_balancer  # type: ignore[method-assign,assignment]
        # Which targets there are is decided by Auto Scaling and here, not at once and for good as moto does.
        ELBv2Backend.notify_terminate_instances = lambda *_: None  # type: ignore[method-assign]

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto only records."""
        return {
            ("elbv2", "DescribeTargetHealth"): self._describe,
            ("elbv2", "DeregisterTargets"): self._deregister,
            ("elbv2", "RegisterTargets"): self._register,
            ("elbv2", "ModifyTargetGroup"): self._modify,
        }

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of Elastic Load Balancing's calls."""
        return {"elbv2": _needs}

    # --- calls ------------------------------------------------------------------------------------------------

    def _describe(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        if group is None:
            return forward()
        asked = call.arguments.get("Targets") or [{"Id": t} for t in (*group.targets, *draining_of(group))]
        port = "traffic-port" if group.health_check_port in (None, "traffic-port") else str(group.health_check_port)
        found = []
        for target in asked:
            identity = target["Id"]
            given = group.targets.get(identity, {}).get("Port") or target.get("Port") or group.port
            if identity in draining_of(group):
                given = draining_of(group)[identity][0]
            health = health_of(group, identity)
            more = {"Reason": health.reason, "Description": health.description} if health.reason else {}
            found.append(
                {
                    "Target": {"Id": identity, "Port": int(given)},
                    "HealthCheckPort": str(given) if port == "traffic-port" else port,
                    "TargetHealth": {"State": health.state, **more},
                }
            )
        return call.answer({"TargetHealthDescriptions": found})

    def _register(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        reply = forward()
        group = _named(call, principal)
        if reply.status < 400 and group is not None:
            for target in call.arguments["Targets"]:
                draining_of(group).pop(target["Id"], None)
        return reply

    def _deregister(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        if group is None:
            return forward()
        until = self.parts.clock.now() + self.parts.clock.scaled(drain_delay(group))
        for target in call.arguments["Targets"]:
            deregister(group, target["Id"], until)
        return call.answer({})

    def _modify(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        if group is not None:
            asked = call.arguments
            interval = int(asked.get("HealthCheckIntervalSeconds") or group.health_check_interval_seconds)
            timeout = int(asked.get("HealthCheckTimeoutSeconds") or group.health_check_timeout_seconds)
            if timeout >= interval:
                message = f"Health check timeout '{timeout}' must be smaller than the interval '{interval}'"
                raise Refused("ValidationError", message)
            path = asked.get("HealthCheckPath")
            if path is not None and not re.fullmatch(r"/.{0,1023}", path):
                raise Refused("ValidationError", f"Health check path '{path}' must begin with a '/' character")
        return forward()

    # --- state ------------------------------------------------------------------------------------------------

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return target groups and load balancers by name: what people set, not which instances there are."""
        groups, balancers = {}, {}
        for region in sorted(elbv2_backends[account]):
            backend = elbv2_backends[account][region]
            groups.update({f"{region}/{g.name}": _configuration(g) for g in backend.target_groups.values()})
            for balancer in backend.load_balancers.values():
                listeners = {str(listener.port): [_group_arn(listener)] for listener in balancer.listeners.values()}
                balancers[f"{region}/{balancer.name}"] = {"listeners": listeners}
        return {"targetGroups": groups, "loadBalancers": balancers} if groups or balancers else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return a target group's settings and targets."""
        if call.service != "elbv2":
            return None
        group = elbv2_backends[account][call.region].target_groups.get(call.arguments.get("TargetGroupArn", ""))
        return {**_configuration(group), "targets": sorted(group.targets)} if group is not None else None

    # --- what goes on by itself -------------------------------------------------------------------------------

    def keep_house(self) -> None:
        """Start the health checks that are due, end what has drained, and tell the listeners who gets requests."""
        now = self.parts.clock.now()
        gauges = self._gauged is None or now >= self._gauged
        if gauges:
            self._gauged = now + self.parts.clock.scaled(_GAUGES)
        for account in list(elbv2_backends):
            for region in list(elbv2_backends[account]):
                backend = elbv2_backends[account][region]
                for group in backend.target_groups.values():
                    self._check(group, now)
                for balancer in list(backend.load_balancers.values()):
                    if gauges:
                        self._gauge(backend, balancer, now)
        self._forwarder.serve(self._routes())

    def _check(self, group: Any, now: datetime) -> None:
        draining, checked = draining_of(group), checked_of(group)
        for target in [t for t, (_, until) in draining.items() if until <= now]:
            del draining[target]
        for target in [t for t in checked if t not in group.targets]:
            del checked[target]
        if not group.load_balancer_arns or not group.health_check_enabled:
            return
        for target, registered in group.targets.items():
            port = int(registered.get("Port") or group.port)
            known = checked.get(target)
            if known is None or known.port != port:
                known = checked[target] = Checked(port=port, since=now)
            if not known.asking and (known.due is None or known.due <= now) and not _stopped(group, target):
                known.asking = True
                known.due = now + self.parts.clock.scaled(timedelta(seconds=int(group.health_check_interval_seconds)))
                own = group.health_check_port
                probe = Probe(
                    address=_address(group, target),
                    port=port if own in (None, "traffic-port") else int(own),
                    path=group.health_check_path or "/",
                    matcher=str(group.matcher.get("HttpCode") or "200"),
                    timeout=float(group.health_check_timeout_seconds),
                )
                self._pool.submit(self._ask, group, target, known, probe)

    def _ask(self, group: Any, target: str, known: Checked, probe: Probe) -> None:
        found = probe.run()
        with self.parts.lock:
            known.asking = False
            if checked_of(group).get(target) is known:
                _judge(group, known, found)

    def _routes(self) -> dict[str, Route]:
        """Return what each listener does with a request now, by its ARN."""
        routes = {}
        for account in list(elbv2_backends):
            for region in list(elbv2_backends[account]):
                backend = elbv2_backends[account][region]
                for balancer in backend.load_balancers.values():
                    if vars(balancer)["hold"] is None:
                        continue
                    firewall = firewall_of(self.parts, account, region, balancer.arn)
                    for listener in balancer.listeners.values():
                        group = backend.target_groups.get(_group_arn(listener))
                        routes[listener.arn] = Route(
                            account=account,
                            region=region,
                            address=balancer.dns_name,
                            port=int(listener.port),
                            dimensions=_dimensions(balancer, group),
                            targets=_receivers(group) if group is not None else (),
                            idle_seconds=float(balancer.attrs.get("idle_timeout.timeout_seconds", 60)),
                            allows=partial(self._allows, firewall) if firewall is not None else None,
                        )
        return routes

    def _allows(self, firewall: Firewall, request: Request) -> bool:
        return firewall.allows(request, self.parts.clock.now())

    def _count(self, route: Route, at: datetime | None = None, *, by_target: bool = False, **values: float) -> None:
        """Count what a listener did, visible later. Shape: `by_target` for what is kept per target group too."""
        at = at or self.parts.clock.now()
        dimensions = route.dimensions if by_target else route.dimensions[:1]
        add = self.parts.metrics.add
        self.parts.delayed.later(
            METRICS_DELAY, lambda: add(route.account, route.region, dimensions, at, namespace=_NAMESPACE, **values)
        )

    def _gauge(self, backend: Any, balancer: Any, now: datetime) -> None:
        for listener in balancer.listeners.values():
            group = backend.target_groups.get(_group_arn(listener))
            if group is None:
                continue
            states = [health_of(group, target).state for target in group.targets]
            dimensions = _dimensions(balancer, group)[1:]
            values = {
                "HealthyHostCount": float(states.count("healthy")),
                "UnHealthyHostCount": float(states.count("unhealthy")),
            }
            add = partial(self.parts.metrics.add, backend.account_id, backend.region_name, dimensions, now)
            self.parts.delayed.later(METRICS_DELAY, partial(add, namespace=_NAMESPACE, **values))

    def close(self) -> None:
        """Close all listeners."""
        self._forwarder.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _place(balancer: Any) -> None:
    """Give a load balancer its address; it is held as long as the load balancer is there."""
    balancer.hold = hold_address()
    if balancer.hold is None:
        balancer.state = "failed"
    else:
        balancer.dns_name = balancer.hold.getsockname()[0]


def _judge(group: Any, known: Checked, found: Health) -> None:
    """Count a check, and change a target's state where the threshold is met.

    The first success makes a new target healthy; afterwards it takes a whole row of equal results.
    """
    passed = found.state == "healthy"
    known.row = max(known.row, 0) + 1 if passed else min(known.row, 0) - 1
    new = known.health.state == "initial"
    enough = 1 if passed and new else int(group.healthy_threshold_count if passed else group.unhealthy_threshold_count)
    if abs(known.row) >= enough:
        known.health = found
    elif new:
        known.health = _because("initial", "Elb.InitialHealthChecking")


def _receivers(group: Any) -> tuple[tuple[str, int], ...]:
    """Return addresses and ports of the targets that get requests: the healthy ones, else all that are registered."""
    by_state: dict[str, list[tuple[str, int]]] = {}
    for target, registered in group.targets.items():
        where = _address(group, target), int(registered.get("Port") or group.port)
        by_state.setdefault(health_of(group, target).state, []).append(where)
    chosen = [by_state.get(state) for state in ("healthy", "unavailable", "unhealthy", "initial")]
    return tuple(next((found for found in chosen if found), ()))


def _group_arn(listener: Any) -> str:
    """Return the target group that a listener's default action forwards to; empty for none."""
    for action in listener.default_actions:
        data = action.data
        if data.get("Type") == "forward":
            groups = (data.get("ForwardConfig") or {}).get("TargetGroups") or []
            return str(data.get("TargetGroupArn") or (groups[0]["TargetGroupArn"] if groups else ""))
    return ""


def _dimensions(balancer: Any, group: Any) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return what metrics are kept by: the load balancer alone, then with the target group."""
    one = ("LoadBalancer", balancer.arn.split(":loadbalancer/", 1)[1])
    if group is None:
        return ((one,),)
    return ((one,), (one, ("TargetGroup", group.arn.rsplit(":", 1)[1])))


def _configuration(group: Any) -> dict[str, Any]:
    return {
        "path": group.health_check_path,
        "port": str(group.health_check_port),
        "protocol": group.health_check_protocol,
        "matcher": dict(group.matcher),
        "interval": int(group.health_check_interval_seconds),
        "timeout": int(group.health_check_timeout_seconds),
        "healthy": int(group.healthy_threshold_count),
        "unhealthy": int(group.unhealthy_threshold_count),
        "enabled": bool(group.health_check_enabled),
        "attributes": {key: str(value) for key, value in sorted(group.attributes.items())},
    }


def _named(call: Call, principal: Principal) -> Any:
    arn = call.arguments.get("TargetGroupArn", "")
    return elbv2_backends[principal.account][call.region].target_groups.get(arn)


def _needs(call: Call, account: str) -> Iterator[Need]:
    resource = "*"
    if not call.operation.startswith("Describe"):
        for member in ("TargetGroupArn", "ListenerArn", "LoadBalancerArn"):
            resource = call.arguments.get(member) or resource
            if resource != "*":
                break
    yield Need(action=f"elasticloadbalancing:{call.operation}", resource=resource)
