"""Where a probe is made from: the operator's own place, or instances that stand where the service does.

From instances a probe is a command of SSM, and of all commands one: `IncidentOperator-Probe`, a document that connects,
asks over HTTP for a path if it is given one, and says one word, or the status. The operator sends it only where the
account's document is this one to the letter.
Source: design §3 (vantage), facts on verification (a connect from the source tier).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .base import ActionModel, Found, Unclear
from .ports import Connection, FromInstance, Reader

#: The one document, by its name in the account.
DOCUMENT = "IncidentOperator-Probe"
#: So many instances a probe may be asked of, at most.
MOST_INSTANCES = 3
_MARK = "incident-operator-probe/1"
#: What the document may be given. Its own patterns refuse anything else, whoever sends it.
HOST_PATTERN, PORT_PATTERN, SECONDS_PATTERN = "^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$", "^[1-9][0-9]{0,4}$", "^[1-9][0-9]?$"
#: A path of letters that mean nothing to a shell, to printf or to HTTP; `NO_PATH` is to connect, and send nothing.
PATH_PATTERN, NO_PATH = "^(-|/[A-Za-z0-9/_.~-]{0,255})$", "-"
# The path is an argument of the inner shell and of printf, never part of either's program. Of an answer the first 13
# bytes are read: the status and what ends it. They hold no message that the cases below know.
_SCRIPT = f"""\
export LC_ALL=C
said=$(timeout {{{{ seconds }}}} bash -c '
exec 3<>/dev/tcp/{{{{ host }}}}/{{{{ port }}}} || exit 1
[ "$0" = - ] && exit 0
printf "GET %s HTTP/1.1\\r\\nHost: %s\\r\\nUser-Agent: %s\\r\\nConnection: close\\r\\n\\r\\n" \\
  "$0" "{{{{ host }}}}:{{{{ port }}}}" incident-operator >&3 || exit 1
IFS= read -r -N 13 line <&3 || exit 1
printf %s "$line"
' '{{{{ path }}}}' 2>&1)
case "$?:$said" in
  0:HTTP/1.[01]\\ [2-5][0-9][0-9][[:space:]]) said=${{said#HTTP/1.? }} word="answered ${{said%?}}" ;;
  0:*) word=connected ;;
  124:*|*'Connection timed out'*) word=timeout ;;
  *'Connection refused'*) word=refused ;;
  *'No route to host'*|*'Network is unreachable'*|*'Name or service not known'*) word=unreachable ;;
  *) word=failed ;;
esac
echo "{_MARK} $word"
"""
#: The document's content. `manifests/aws/incident-operator-probe.json` is the same, for whoever makes it.
CONTENT: Mapping[str, Any] = {
    "schemaVersion": "2.2",
    "description": "Connects to a host and a port, may GET a path, and says one word. For the incident operator.",
    "parameters": {
        "host": {"type": "String", "description": "a name or an address", "allowedPattern": HOST_PATTERN},
        "port": {"type": "String", "description": "a TCP port", "allowedPattern": PORT_PATTERN},
        "seconds": {"type": "String", "description": "how long to wait for it", "allowedPattern": SECONDS_PATTERN},
        "path": {
            "type": "String",
            "description": "what to GET over HTTP, of which the status is said; - is nothing",
            "default": NO_PATH,
            "allowedPattern": PATH_PATTERN,
        },
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "connect",
            "precondition": {"StringEquals": ["platformType", "Linux"]},
            "inputs": {"timeoutSeconds": "60", "runCommand": _SCRIPT.splitlines()},
        }
    ],
}
_WORDS: Mapping[str, Connection] = {
    "connected": "Connected",
    "refused": "Refused",
    "timeout": "Timeout",
    "unreachable": "Unreachable",
}
_LINE = re.compile(rf"{re.escape(_MARK)} (connected|refused|timeout|unreachable)\n?")
_ANSWERED = re.compile(rf"{re.escape(_MARK)} answered ([2-5][0-9][0-9])\n?", re.ASCII)

#: What choosing instances and asking them needs of IAM, beside `PROBE` on the document and the instances.
READS = (
    "ec2:DescribeInstances",
    "ssm:DescribeDocument",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:GetDocument",
)
PROBE = "ssm:SendCommand"

Vantage = Literal["operator", "instances"]
InstanceId = Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$", max_length=19)]
Name = Annotated[str, Field(min_length=1, max_length=255)]


def heard(output: str) -> Connection | None:
    """Return what the document said; None for anything but its one line."""
    said = _LINE.fullmatch(output)
    return _WORDS[said[1]] if said else None


def answered(output: str) -> int | None:
    """Return the HTTP status that the document said; None for anything but that one line."""
    said = _ANSWERED.fullmatch(output)
    return int(said[1]) if said else None


class Tag(ActionModel):
    """A tag that instances have."""

    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=256)]


class NamedGroup(ActionModel):
    """A security group by its name in a VPC."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]{8,17}$")]
    name: Name


class Instances(ActionModel):
    """Instances by exactly one thing that they have in common. Of those that run `atMost` are asked, by id."""

    ids: Annotated[tuple[InstanceId, ...], Field(max_length=MOST_INSTANCES)] = ()
    auto_scaling_group: Name | None = None
    tag: Tag | None = None
    security_group: NamedGroup | None = None
    at_most: Annotated[int, Field(ge=1, le=MOST_INSTANCES)] = 2

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = [bool(self.ids), bool(self.auto_scaling_group), bool(self.tag), bool(self.security_group)]
        if given.count(True) != 1:
            raise ValueError("give one of ids, autoScalingGroup, tag and securityGroup")
        return self

    def chosen(self, reader: Reader, region: str | None) -> tuple[str, ...]:
        """Return whom to ask; empty where none of them runs. Ids are asked as given. Errors: ReadError."""
        if self.ids:
            return tuple(sorted(set(self.ids)))
        filters: list[tuple[str, str]] = []
        if self.auto_scaling_group is not None:
            filters = [("tag:aws:autoscaling:groupName", self.auto_scaling_group)]
        elif self.tag is not None:
            filters = [(f"tag:{self.tag.key}", self.tag.value)]
        elif self.security_group is not None:
            filters = [("vpc-id", self.security_group.vpc_id), ("instance.group-name", self.security_group.name)]
        return running(reader, filters, self.at_most, region)


def running(reader: Reader, filters: Sequence[tuple[str, str]], at_most: int, region: str | None) -> tuple[str, ...]:
    """Return the first of the instances that run and have all of this, by id. Errors: ReadError."""
    wanted = [*filters, ("instance-state-name", "running")]
    arguments = {"Filters": [{"Name": name, "Values": [value]} for name, value in wanted]}
    found = reader.aws("ec2", "describe_instances", arguments, region=region)
    return tuple(sorted(str(i["InstanceId"]) for i in found if i["State"] == "running")[:at_most])


class Heard(ActionModel):
    """What one instance said of one place. Shape: `outcome` is None where it gave no answer; `why` says why."""

    instance: str
    place: str
    outcome: Connection | None = None
    why: str = ""

    @property
    def label(self) -> str:
        """Who asked whom, for messages."""
        return f"{self.instance} to {self.place}"


class Got(Heard):
    """What one instance was answered. Shape: `status` is None where `outcome` is anything but Connected."""

    status: int | None = None


#: What each reason of `FromInstance.why` means, for people.
_WHY: Mapping[str, str] = {
    "NotManaged": "SSM does not manage it, or has lost it",
    "NotLinux": "the probe document is for Linux",
    "NoAnswer": "it gave no answer in time",
    "Failed": "the probe document did not run there as it should",
    "NotProbed": "it could be asked, and was not",
}
_NOT_PROBED = (
    "not probed: an observe-only run sends no command (neither does a drill, nor a trial of a runbook); to probe, "
    "start a run without drill that may propose fixes (askUpTo: Low or more)"
)


def as_heard(answers: Sequence[FromInstance]) -> tuple[Heard, ...]:
    """Return answers as facts, in their order."""
    return tuple(Heard(instance=a.instance, place=f"{a.host}:{a.port}", outcome=a.outcome, why=a.why) for a in answers)


def as_got(answers: Sequence[FromInstance]) -> tuple[Got, ...]:
    """Return answers to a GET as facts, in their order. One that connected and has no status is no answer."""
    got = []
    for a in answers:
        odd = a.outcome == "Connected" and a.status is None
        outcome, why = (None, "Failed") if odd else (a.outcome, a.why)
        got.append(Got(instance=a.instance, place=f"{a.host}:{a.port}", outcome=outcome, why=why, status=a.status))
    return tuple(got)


def unanswered(heard_: Sequence[Heard]) -> str:
    """Say who gave no answer and why; empty where all did."""
    silent = [h for h in heard_ if h.outcome is None]
    if not silent:
        return ""
    return "; ".join(f"{h.label}: {_WHY.get(h.why, 'no answer')}" for h in silent[:MOST_INSTANCES])


def silence(heard_: Sequence[Heard], found: tuple[Found, ...]) -> Unclear | None:
    """Return what a check says where somebody gave no answer; None where all did.

    Nobody is to blame for what was not asked: it has a reason of its own, before what others did not answer.
    """
    silent = unanswered([h for h in heard_ if h.why != "NotProbed"])
    if any(h.why == "NotProbed" for h in heard_):
        message = f"{_NOT_PROBED}; {silent}" if silent else _NOT_PROBED
        return Unclear(reason="NotProbed", message=message, found=found)
    return Unclear(reason="ProbeUnanswered", message=silent, found=found) if silent else None
