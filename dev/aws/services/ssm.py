"""SSM's commands: the one probe document, run as the instance that was asked would run it.

moto says Success at once to anything. Here a command is delivered later, to instances that have an agent (their
profile's role lets it report itself), and of all documents just the operator's is known: its own script runs, against
whatever listens where the host leads from that instance, if groups, ACLs and routes let it through (`dev.aws.network`).

What listens at a network interface says its tag `listens-<port>`, as address and port of this machine; an interface
on loopback, as that of an instance with a program, is that address itself.
"""

import re
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from incident_operator.actions.reads.commands import digest
from incident_operator.actions.vantage import CONTENT

from .. import authorization, network
from ..identity import Principal
from ..permissions import Need
from ..wire import Call, Refused, Reply
from .service import Forward, Handler, Needs, Parts, Service

#: How long AWS takes, unscaled: until a command can be looked at, and until an agent has it.
SHOWN, DELIVERED = timedelta(milliseconds=300), timedelta(seconds=1)
#: What a script may take for real, whatever it was told.
_SCRIPT_SECONDS = 60.0
_LISTENS = "listens-"
#: What an agent must be allowed to, by the role of its instance.
_REPORTING = "ssm:UpdateInstanceInformation"


@dataclass(kw_only=True)
class Invocation:
    """A command on one instance. Shape: `state` as GetCommandInvocation says it."""

    account: str
    region: str
    command: str
    instance: str
    document: str
    version: str
    parameters: Mapping[str, str]
    shown_at: datetime
    state: str = "Pending"
    output: str = ""
    code: int = -1


class Commands(Service):
    """Delivers commands, each in a thread of its own."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._made: dict[tuple[str, str, str], Invocation] = {}

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto has no agents for."""
        return {
            ("ssm", "SendCommand"): self._send,
            ("ssm", "GetCommandInvocation"): self._get,
            ("ssm", "DescribeInstanceInformation"): self._describe,
        }

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of SSM's calls."""
        return {"ssm": _needs}

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return what tells the documents' content."""
        found = {
            f"{region}/{name}": digest(documents.get_default_version().content_json)[:12]
            for region in sorted(ssm_backends[account])
            for name, documents in sorted(ssm_backends[account][region]._documents.items())
        }
        return {"ssmDocuments": found} if found else {}

    def _describe(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        given = call.arguments.get("Filters") or []
        if any(one["Key"] != "InstanceIds" for one in given):
            raise Refused("InvalidFilterKey", "the simulator finds instances by InstanceIds only")
        wanted = {value for one in given for value in one["Values"]}
        backend = ec2_backends[principal.account][call.region]
        found = [
            {"InstanceId": instance.id, "PingStatus": "Online", "PlatformType": "Linux", "ResourceType": "EC2Instance"}
            for instance in (one for reservation in backend.reservations.values() for one in reservation.instances)
            if (not given or instance.id in wanted) and _has_agent(instance, principal.account)
        ]
        return call.answer({"InstanceInformationList": found})

    def _send(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        arguments = call.arguments
        document = _document(call, principal.account)
        parameters = _checked(document.content_json["parameters"], arguments.get("Parameters") or {})
        instances = list(arguments.get("InstanceIds") or ())
        backend = ec2_backends[principal.account][call.region]
        able = {
            one.id
            for reservation in backend.reservations.values()
            for one in reservation.instances
            if _has_agent(one, principal.account)
        }
        if not instances or set(instances) - able:
            raise Refused("InvalidInstanceId", f"Instances {sorted(set(instances) - able)} not in a valid state")
        if len(set(instances)) != len(instances):
            raise Refused("DuplicateInstanceId", "You cannot specify an instance ID in more than one association.")
        seconds = int(arguments.get("TimeoutSeconds") or 3600)
        if seconds < 30:
            raise Refused("ValidationException", "timeoutSeconds must be greater than or equal to 30")
        identity, at = str(uuid.uuid4()), self.parts.clock.now()
        for instance in instances:
            made = Invocation(
                account=principal.account,
                region=call.region,
                command=identity,
                instance=instance,
                document=document.name,
                version=document.document_version,
                parameters=parameters,
                shown_at=at + self.parts.clock.scaled(SHOWN),
            )
            self._made[principal.account, identity, instance] = made
            work = threading.Thread(target=self._deliver, args=(made, seconds), name="ssm-agent", daemon=True)
            work.start()
        return call.answer(
            {
                "Command": {
                    "CommandId": identity,
                    "DocumentName": document.name,
                    "DocumentVersion": document.document_version,
                    "InstanceIds": instances,
                    "Parameters": arguments.get("Parameters") or {},
                    "RequestedDateTime": at,
                    "ExpiresAfter": at + timedelta(seconds=seconds),
                    "Status": "Pending",
                    "TimeoutSeconds": seconds,
                }
            }
        )

    def _get(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        known = (principal.account, call.arguments["CommandId"], call.arguments["InstanceId"])
        made = self._made.get(known)
        if made is None or made.region != call.region or self.parts.clock.now() < made.shown_at:
            raise Refused("InvocationDoesNotExist", "The command ID and managed node ID do not match")
        return call.answer(
            {
                "CommandId": made.command,
                "InstanceId": made.instance,
                "DocumentName": made.document,
                "DocumentVersion": made.version,
                "PluginName": "connect",
                "ResponseCode": made.code,
                "Status": made.state,
                "StatusDetails": "DeliveryTimedOut" if made.state == "TimedOut" else made.state,
                "StandardOutputContent": made.output,
                "StandardErrorContent": "",
            }
        )

    def _deliver(self, made: Invocation, seconds: int) -> None:
        """Let an instance have a command, and keep what it says. In a thread of its own, without the lock."""
        clock = self.parts.clock
        if self.parts.stopping.wait((clock.scaled(SHOWN) + clock.scaled(DELIVERED)).total_seconds()):
            return
        with self.parts.lock:
            backend = ec2_backends[made.account][made.region]
            instance = backend.get_instance(made.instance)
            delivered = _has_agent(instance, made.account)
            if delivered:
                made.state = "InProgress"
                place = _leads_to(backend, instance, made.parameters["host"], int(made.parameters["port"]))
        if not delivered:
            self.parts.stopping.wait(clock.scaled(timedelta(seconds=seconds)).total_seconds())
            made.state = "TimedOut"
            return
        if isinstance(place, str):
            if place == "timeout":
                waited = clock.scaled(timedelta(seconds=int(made.parameters["seconds"])))
                self.parts.stopping.wait(waited.total_seconds())
            made.output, made.code = f"incident-operator-probe/1 {place}\n", 0
        else:
            made.output, made.code = _ran(*place, made.parameters)
        # Last: whoever sees that it ended reads the rest.
        made.state = "Success" if made.code == 0 else "Failed"


def _document(call: Call, account: str) -> Any:
    """Return the document that a command names. Errors: Refused for any but the probe's own."""
    name, version = call.arguments["DocumentName"], call.arguments.get("DocumentVersion") or "$DEFAULT"
    documents = ssm_backends[account][call.region]._documents.get(name)
    if documents is None:
        raise Refused("InvalidDocument", "The specified document does not exist.")
    found = documents.get_default_version() if version == "$DEFAULT" else documents.versions.get(version)
    if found is None:
        raise Refused("InvalidDocumentVersion", "The document version is not valid or does not exist.")
    if call.arguments.get("DocumentHash") not in (None, found.hash):
        raise Refused("InvalidDocument", "The document hash does not match.")
    if digest(found.content_json) != digest(CONTENT):
        raise Refused("InvalidDocument", "the simulator runs the operator's probe document and no other")
    return found


def _checked(declared: Mapping[str, Any], given: Mapping[str, list[str]]) -> dict[str, str]:
    """Return a command's parameters. Errors: Refused for what the document does not take."""
    given = {**{name: [one["default"]] for name, one in declared.items() if "default" in one}, **given}
    if set(declared) != set(given):
        raise Refused("InvalidParameters", f"the document takes {sorted(declared)}, and was given {sorted(given)}")
    for name, values in given.items():
        if len(values) != 1 or re.fullmatch(declared[name]["allowedPattern"], values[0]) is None:
            raise Refused("InvalidParameters", f"Parameter {name} does not match its allowed pattern")
    return {name: values[0] for name, values in given.items()}


def _has_agent(instance: Any, account: str) -> bool:
    """Tell whether an instance runs, and the role of its profile lets its agent report."""
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    if instance._state.name != "running" or association is None:
        return False
    for role in association.iam_instance_profile.roles:
        arn = f"arn:aws:sts::{account}:assumed-role/{role.name}/{instance.id}"
        agent = Principal(kind="AssumedRole", account=account, arn=arn, name=instance.id, role_arn=role.arn)
        if not authorization.why_not(Need(action=_REPORTING, resource="*"), agent):
            return True
    return False


def _leads_to(backend: Any, instance: Any, host: str, port: int) -> tuple[str, int] | str:
    """Return what an instance reaches at a host and port of its VPC, on this machine; else the word for what it meets.

    The network is the one of the moment: nothing is remembered.
    """
    (source,) = [nic for nic in instance.nics.values() if nic.device_index == 0]
    own = [nic for nic in backend.enis.values() if nic.subnet.vpc_id == source.subnet.vpc_id]
    target = next((nic for nic in [*own, source] if nic.private_ip_address == host), None)
    if target is None:
        return "timeout" if re.fullmatch(r"[0-9.]+", host) else "unreachable"
    if not network.passes(backend, source, target, port):
        return "timeout"
    said = next((t["value"] for t in target.get_tags() if t["key"] == f"{_LISTENS}{port}"), None)
    if said is not None:
        address, _, own_port = str(said).rpartition(":")
        return address, int(own_port)
    return (host, port) if host.startswith("127.") else "refused"


def _ran(host: str, port: int, parameters: Mapping[str, str]) -> tuple[str, int]:
    """Run the document's script against a place here, and return what it said and its exit status."""
    script = "\n".join(CONTENT["mainSteps"][0]["inputs"]["runCommand"])
    for name, value in {**parameters, "host": host, "port": str(port)}.items():
        script = script.replace("{{ " + name + " }}", value)
    try:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=_SCRIPT_SECONDS)
    except subprocess.TimeoutExpired:
        return "", 1
    return done.stdout, done.returncode


def _needs(call: Call, account: str) -> Iterator[Need]:
    arguments = call.arguments
    name = arguments.get("DocumentName") or (arguments.get("Name") if "Document" in call.operation else None)
    if name:
        owner = "" if str(name).startswith("AWS-") else account
        yield Need(action=f"ssm:{call.operation}", resource=f"arn:aws:ssm:{call.region}:{owner}:document/{name}")
    if call.operation == "SendCommand":
        for instance in arguments.get("InstanceIds") or ("*",):
            arn = f"arn:aws:ec2:{call.region}:{account}:instance/{instance}"
            yield Need(action="ssm:SendCommand", resource=arn)
    elif not name:
        yield Need(action=f"ssm:{call.operation}", resource="*")
