"""Probes from instances: one document of SSM, sent to instances that the grant lists, and what they say.

Before anything is sent: the grant lists the instances and the place, SSM manages the instances, and the account's
document is ours to the letter. It is sent by its version and hash, so that it can't become another one meanwhile.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..actions.ports import ConnectFrom, FromInstance, NotFound, ReadError
from ..actions.reads.commands import digest
from ..actions.vantage import CONTENT, DOCUMENT, HOST_PATTERN, MOST_INSTANCES, NO_PATH, PATH_PATTERN
from ..api.grant import ActionGrant, AwsGrant
from ..core.risk import matches
from . import probe

if TYPE_CHECKING:
    from .aws import Gateway

#: Of one check: so many commands at most.
_MOST_COMMANDS = 24
#: SSM takes a second or two to reach an agent; it has this long beside the connection's own time.
_REACH_SECONDS = 20.0
_POLL_SECONDS = 0.3
_UNDER_WAY = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
#: Errors of a look that the next one may not have.
_PASSING = frozenset({"Throttled", "Timeout", "Unreachable"})
Read = Callable[[str, Mapping[str, Any]], Any]


def ask(
    gateway: "Gateway",
    grant: ActionGrant,
    region: str,
    asked: Sequence[ConnectFrom],
    *,
    timeout: timedelta,
    read: Read,
    api_server: probe.Endpoint | None,
    observe_only: bool,
) -> tuple[FromInstance, ...]:
    """Let instances connect, and return what they say.

    Shape: `read` makes a listed read of SSM, shared by the diagnosis. With `observe_only` nothing is sent: whoever
    could be asked is NotProbed. Errors: ReadError.
    """
    _admit(grant, region, asked, api_server)
    everybody = sorted({instance for one in asked for instance in one.instances})
    if not everybody:
        return ()
    filters = [{"Key": "InstanceIds", "Values": everybody}]
    managed = {m["instance"]: m for m in read("describe_instance_information", {"Filters": filters})}
    unable = {i: why for i in everybody if (why := _unable(managed.get(i)))}
    document = _document(grant, read) if len(unable) < len(everybody) else {}
    if observe_only:
        unable = {i: unable.get(i, "NotProbed") for i in everybody}
    seconds = max(1, ceil(timeout.total_seconds()))
    commands: list[tuple[ConnectFrom, str]] = []
    for one in asked:
        able = [i for i in one.instances if i not in unable]
        sent = ""
        if able:
            what = (_aws(grant), region, able, document, one.host, one.port, seconds)
            sent = gateway.send_probe(*what, one.path) if one.path else gateway.send_probe(*what)
        commands.append((one, sent))
    limit = monotonic() + seconds + _REACH_SECONDS
    return tuple(
        _answer(gateway, grant, region, one, command, instance, unable.get(instance, ""), limit)
        for one, command in commands
        for instance in one.instances
    )


def _admit(grant: ActionGrant, region: str, asked: Sequence[ConnectFrom], api_server: probe.Endpoint | None) -> None:
    """Let pass what the grant admits. Errors: ReadError."""
    name, aws = grant.metadata.name, _aws(grant)
    if grant.spec.suspended is not None:
        raise ReadError("NotGranted", f"ActionGrant {name} is suspended: nothing is sent to instances")
    if len(asked) > _MOST_COMMANDS or any(len(one.instances) > MOST_INSTANCES for one in asked):
        message = f"at most {_MOST_COMMANDS} places are asked for, of {MOST_INSTANCES} instances each"
        raise ReadError("InvalidRequest", message)
    partition = aws.role_arn.split(":")[1]
    for one in asked:
        for instance in one.instances:
            arn = f"arn:{partition}:ec2:{region}:{aws.account}:instance/{instance}"
            if not matches(arn, grant.spec.probes.instances):
                raise ReadError("NotGranted", f"the probes of ActionGrant {name} do not list instance {instance}")
        if re.fullmatch(HOST_PATTERN, one.host) is None:
            raise ReadError("InvalidRequest", "the probe document takes no such host")
        if one.path and (one.path == NO_PATH or ":" in one.host or re.fullmatch(PATH_PATTERN, one.path) is None):
            raise ReadError("InvalidRequest", "the probe document takes no such path or host for HTTP")
        probe.admit_elsewhere(one.host, one.port, grant.spec.probes, api_server)


def _unable(managed: Mapping[str, Any] | None) -> str:
    """Return why an instance can't be asked; empty where it can."""
    if managed is None or not managed["online"]:
        return "NotManaged"
    return "" if managed["linux"] else "NotLinux"


def _document(grant: ActionGrant, read: Read) -> dict[str, str]:
    """Return version and hash of the account's document, once it is ours, as SendCommand takes them.

    Errors: ReadError.
    """
    named = {"Name": DOCUMENT}
    try:
        found = read("get_document", named)
        described = read("describe_document", {**named, "DocumentVersion": found["version"]})
    except NotFound:
        message = f"account {_aws(grant).account} has no SSM document {DOCUMENT}: make it (docs/vantage.md)"
        raise ReadError("ProbeDocumentMissing", message) from None
    ours = (DOCUMENT, digest(CONTENT), found["version"], _aws(grant).account, "Active")
    if ours != (found["name"], found["digest"], described["version"], described["owner"], described["status"]):
        message = f"SSM document {DOCUMENT} is not the one that the operator knows: nothing is sent (docs/vantage.md)"
        raise ReadError("ProbeDocumentChanged", message)
    return {
        "DocumentVersion": found["version"],
        "DocumentHash": described["hash"],
        "DocumentHashType": described["hashType"],
    }


def _answer(
    gateway: "Gateway",
    grant: ActionGrant,
    region: str,
    one: ConnectFrom,
    command: str,
    instance: str,
    why: str,
    limit: float,
) -> FromInstance:
    """Return what an instance says, waiting for it until a limit. Errors: ReadError."""
    said = FromInstance(instance=instance, host=one.host, port=one.port, why=why)
    arguments = {"CommandId": command, "InstanceId": instance}
    pause = threading.Event()
    while not why:
        try:
            found = gateway.read(_aws(grant), region, "ssm", "get_command_invocation", arguments)
        except NotFound:
            found = None  # SSM may not show a command at once
        except ReadError as error:
            if error.reason not in _PASSING:
                raise
            found = None
        if found is not None and found["state"] not in _UNDER_WAY:
            return _of(said, found, command, of_path=bool(one.path))
        if monotonic() >= limit:
            return replace(said, why="NoAnswer")
        pause.wait(_POLL_SECONDS)
    return said


def _of(said: FromInstance, found: Mapping[str, Any], command: str, *, of_path: bool) -> FromInstance:
    """Return an ended command as an answer: what is odd in any way is none.

    To a GET that is a connection without a status, and to a connection any status.
    """
    about = (found["command"], found["instance"]) == (command, said.instance)
    why = "NoAnswer" if found["state"] == "TimedOut" else "Failed"
    if not about or found["state"] != "Success":
        return replace(said, why=why)
    outcome, status = found["outcome"], found.get("status")
    if of_path:
        outcome = "Connected" if status is not None else outcome if outcome != "Connected" else None
    return replace(said, outcome=outcome, why="" if outcome else why, status=status if of_path else None)


def _aws(grant: ActionGrant) -> AwsGrant:
    if grant.spec.aws is None:
        raise ReadError("NotGranted", f"ActionGrant {grant.metadata.name} has no aws section")
    return grant.spec.aws
