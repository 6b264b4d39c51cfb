"""EC2 instances are processes: each has a loopback address of its own, and ends when it is terminated.

The launch template's UserData names the program, as JSON: `{"program": "dev.shop.storefront.web", "configuration":
{…}}`. Only programs of `PROGRAMS` are started. Such a program gets one line of JSON on its standard input (`address`,
`instanceId`, `region`, `timeScale`, `configuration`), says `{"ready": true}` on its standard output once it answers,
and ends when its input ends, so that none outlives the simulator. What else it says there is what a hypervisor or an
agent on it would measure:

`{"utilization": 71.5}`                                             AWS/EC2 CPUUtilization of now, in percent
`{"put": {"namespace": "…", "metric": "…", "value": 1, "at": "…"}}` a metric of the instance's own agent

An instance without such UserData is a record, as moto keeps it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.instances import StateReason
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data

from dev.loopback import ROOT, neighbours

from ..identity import Principal
from ..permissions import Need
from ..telemetry import METRICS_DELAY
from ..wire import Call, Reply
from .service import Forward, Handler, Needs, Parts, Service

#: What an instance may run. Add yours here.
PROGRAMS = frozenset({"dev.shop.storefront.web"})
GROUP_TAG = "aws:autoscaling:groupName"
#: An instance's address is held by this UDP port of it, so that simulators side by side never give one out twice.
_HOLD_PORT = 50_999
_BOOT = timedelta(seconds=20)
_EC2 = "AWS/EC2"


class NoSuchProgram(ValueError):
    """UserData names a program that no instance may run, or is no such JSON."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an instance runs."""

    module: str
    configuration: Mapping[str, Any]


def _networks(backend: EC2Backend) -> dict[str, Any]:
    """Return what decides connections, by id: rules, entries and routes of every VPC that somebody made."""
    made = {vpc.id for vpc in backend.vpcs.values() if not vpc.is_default}
    found: dict[str, Any] = {}
    for vpc in made:
        for group in backend.groups[vpc].values():
            rules = {"ingress": group.ingress_rules, "egress": group.egress_rules}
            found[group.id] = {way: _canonical(map(_rule, listed)) for way, listed in rules.items()}
    for acl in backend.network_acls.values():
        if acl.vpc_id in made:
            found[acl.id] = _canonical(
                [e.rule_number, e.egress, e.rule_action, e.protocol, e.cidr_block, e.port_range_from, e.port_range_to]
                for e in acl.network_acl_entries
            )
    for table in backend.route_tables.values():
        if table.vpc_id in made:
            found[table.id] = _canonical([r.destination_cidr_block, r.gateway_id, r.instance_id] for r in table.routes)
    return found


def _rule(rule: Any) -> list[Any]:
    """Return a rule without its own id, which is another one after it was removed and given back."""
    who = [rule.ip_range or None, (rule.source_group or {}).get("GroupId"), rule.prefix_list_id]
    return [rule.ip_protocol, rule.from_port, rule.to_port, *who]


def _canonical(entries: Iterable[list[Any]]) -> list[list[Any]]:
    """Return entries in an order that does not depend on when each was made."""
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))


def program_of(user_data: Any) -> Program | None:
    """Return the program that UserData names; None for none. Errors: NoSuchProgram."""
    text = user_data.decode().strip() if user_data else ""
    if not text.startswith("{"):
        return None
    try:
        asked = json.loads(text)
        module, configuration = str(asked["program"]), dict(asked.get("configuration") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise NoSuchProgram(f"The user data names no program: {type(error).__name__}") from None
    if module not in PROGRAMS:
        raise NoSuchProgram(f"The program {module} is none that an instance of the simulator may run")
    return Program(module=module, configuration=configuration)


def hold_address() -> socket.socket | None:
    """Return a socket that holds a loopback address of this checkout; None when none is left, or there are none."""
    for address in neighbours(ROOT):
        held = socket.socket(type=socket.SOCK_DGRAM)
        try:
            held.bind((address, _HOLD_PORT))
        except OSError:
            held.close()
            continue
        return held
    return None


@dataclass(kw_only=True, eq=False)
class Machine:
    """An instance that runs a program. Shape: `due` is when it starts; `ready` once its program said so."""

    instance: Any
    program: Program
    hold: socket.socket
    due: datetime
    ready: bool = False
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Its private address."""
        return str(self.hold.getsockname()[0])

    def end(self) -> None:
        """End the program."""
        self.ready = False
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None


def machine_of(instance: Any) -> Machine | None:
    """Return what runs as an instance; None for one that is only a record."""
    found: Machine | None = vars(instance).get("machine")
    return found


class Instances(Service):
    """Starts and ends the programs of instances."""

    beat = 0.1

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._machines: list[Machine] = []
        original = EC2Backend.run_instances

        def run_instances(backend: Any, *arguments: Any, **named: Any) -> Any:
            reservation = original(backend, *arguments, **named)
            for instance in reservation.instances:
                self._adopt(instance)
            return reservation

        EC2Backend.run_instances = run_instances  # type: ignore[method-assign,assignment]
        version = LaunchTemplate.create_version

        def create_version(template: Any, data: dict[str, Any], description: str) -> Any:
            # moto does it for a template's first version only.
            if isinstance(data.get("UserData"), str):
                data = {**data, "UserData": parse_user_data(data["UserData"])}
            return version(template, data, description)

        LaunchTemplate.create_version = create_version  # type: ignore[method-assign,assignment]

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto leaves out: a reboot is one."""
        return {("ec2", "RebootInstances"): self._reboot}

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of EC2's calls."""
        return {"ec2": _needs}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return launch templates by name, what an instance of the default version would be; and networks' rules."""
        found, networks = {}, {}
        for region in sorted(ec2_backends[account]):
            for template in ec2_backends[account][region].launch_templates.values():
                data = template.default_version().data
                text = str(data.get("UserData") or "")
                digest = sha256(text.encode()).hexdigest()[:12]
                found[f"{region}/{template.name}"] = {"image": data.get("ImageId"), "userData": digest}
            networks.update(_networks(ec2_backends[account][region]))
        templates = {"launchTemplates": dict(sorted(found.items()))} if found else {}
        return {**templates, "networks": dict(sorted(networks.items()))} if networks else templates

    def touched(self, call: Call, account: str) -> Any:
        """Return a launch template's default version."""
        if call.service != "ec2":
            return None
        name, identity = call.arguments.get("LaunchTemplateName"), call.arguments.get("LaunchTemplateId")
        for template in ec2_backends[account][call.region].launch_templates.values():
            if template.name == name or template.id == identity:
                return {"default": template.default_version_number}
        return None

    def _adopt(self, instance: Any) -> None:
        """Give a launched instance its address, and let its program start; terminate it where there can be none."""
        try:
            program = program_of(instance.user_data)
        except NoSuchProgram as error:
            _fail(instance, "Client.InternalError", str(error))
            return
        if program is None:
            return
        hold = hold_address()
        if hold is None:
            _fail(instance, "Server.InsufficientInstanceCapacity", "No loopback address of this machine is free")
            return
        instance.nics[0].private_ip_address = hold.getsockname()[0]
        instance._state.name, instance._state.code = "pending", 0
        due = self.parts.clock.now() + self.parts.clock.scaled(_BOOT)
        instance.machine = Machine(instance=instance, program=program, hold=hold, due=due)
        self._machines.append(instance.machine)

    def keep_house(self) -> None:
        """Start what is due, end what is terminated or stopped."""
        now = self.parts.clock.now()
        for machine in list(self._machines):
            state = machine.instance._state
            if state.name == "terminated":
                machine.end()
                machine.hold.close()
                self._machines.remove(machine)
            elif state.name == "stopped":
                machine.end()
            elif machine.process is None and now >= machine.due:
                self._start(machine)

    def _start(self, machine: Machine) -> None:
        state = machine.instance._state
        state.name, state.code = "running", 16
        told = {
            "address": machine.address,
            "instanceId": machine.instance.id,
            "region": machine.instance.region_name,
            "timeScale": self.parts.clock.scale,
            "configuration": machine.program.configuration,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", machine.program.module],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": f"{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        machine.process = process
        threading.Thread(target=self._hear, args=(machine, process), name="instance", daemon=True).start()
        assert process.stdin is not None  # noqa: S101 it was asked for
        try:
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            sys.stderr.write(f"{machine.instance.id}: its program ended at once\n")

    def _hear(self, machine: Machine, process: "subprocess.Popen[str]") -> None:
        """Take what a program says until it ends."""
        assert process.stdout is not None  # noqa: S101 it was asked for
        with process.stdout:
            for line in process.stdout:
                try:
                    said = json.loads(line)
                    if said.get("ready") and machine.process is process:
                        machine.ready = True
                    elif "utilization" in said:
                        self._measured(machine.instance, float(said["utilization"]))
                    elif "put" in said:
                        self._put(machine.instance, said["put"])
                except (ValueError, KeyError, AttributeError) as error:
                    sys.stderr.write(f"{machine.instance.id}: its program said what nobody understands: {error}\n")

    def _measured(self, instance: Any, percent: float) -> None:
        at = self.parts.clock.now()
        dimensions = [(("InstanceId", instance.id),)]
        group = group_of(instance)
        if group:
            dimensions.append((("AutoScalingGroupName", group),))
        add, owner = self.parts.metrics.add, instance.ec2_backend.account_id
        self.parts.delayed.later(
            METRICS_DELAY,
            lambda: add(owner, instance.region_name, dimensions, at, namespace=_EC2, CPUUtilization=percent),
        )

    def _put(self, instance: Any, datum: Mapping[str, Any]) -> None:
        """Store what the instance's agent puts, as PutMetricData does: under the instance and under its group."""
        if str(datum["namespace"]).startswith("AWS/"):
            raise ValueError("an agent can't put metrics of AWS")
        at = datetime.fromisoformat(datum["at"]).astimezone(UTC)
        group = group_of(instance)
        dimensions = [[{"Name": "InstanceId", "Value": instance.id}]]
        dimensions += [[{"Name": "AutoScalingGroupName", "Value": group}]] if group else []
        with self.parts.lock:
            cloudwatch_backends[instance.ec2_backend.account_id][instance.region_name].put_metric_data(
                datum["namespace"],
                [
                    {
                        "MetricName": datum["metric"],
                        "Value": float(datum["value"]),
                        "Timestamp": at.replace(tzinfo=None),
                        "Dimensions": chosen,
                        "Unit": "Percent",
                    }
                    for chosen in dimensions
                ],
            )

    def _reboot(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        reply = forward()
        if reply.status < 400:
            backend = ec2_backends[principal.account][call.region]
            for identity in call.arguments["InstanceIds"]:
                machine = machine_of(backend.get_instance(identity))
                if machine is not None:
                    machine.end()
                    machine.due = self.parts.clock.now()
        return reply

    def close(self) -> None:
        """End all programs."""
        for machine in self._machines:
            machine.end()
            machine.hold.close()


def _fail(instance: Any, code: str, message: str) -> None:
    """Let a launch fail, as EC2 does: the instance is terminated, and says why."""
    instance.terminate()
    instance.state_reason = StateReason(f"{code}: {message}", code)


def group_of(instance: Any) -> str:
    """Return the Auto Scaling group an instance belongs to; empty for none."""
    return next((str(tag["value"]) for tag in instance.get_tags() if tag["key"] == GROUP_TAG), "")


def _needs(call: Call, account: str) -> Iterator[Need]:
    given = call.arguments.get("InstanceIds")
    if isinstance(given, list) and given and not call.operation.startswith("Describe"):
        for identity in given:
            arn = f"arn:aws:ec2:{call.region}:{account}:instance/{identity}"
            yield Need(action=f"ec2:{call.operation}", resource=arn)
        return
    group, template = call.arguments.get("GroupId"), call.arguments.get("LaunchTemplateId")
    if group and "SecurityGroup" in call.operation and not call.operation.startswith("Describe"):
        yield Need(
            action=f"ec2:{call.operation}", resource=f"arn:aws:ec2:{call.region}:{account}:security-group/{group}"
        )
        return
    arn = f"arn:aws:ec2:{call.region}:{account}:launch-template/{template}" if template else "*"
    yield Need(action=f"ec2:{call.operation}", resource="*" if call.operation.startswith("Describe") else arn)
