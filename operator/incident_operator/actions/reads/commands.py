"""SSM: which instances it manages, the one probe document, and what a probe said. Of any output only a known word."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..vantage import DOCUMENT, answered, heard
from .listed import ListedRead

_STATES = frozenset({"Pending", "InProgress", "Delayed", "Success", "Cancelled", "TimedOut", "Failed", "Cancelling"})


def digest(content: Any) -> str:
    """Return what tells contents of documents apart, however they are written."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _managed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "instance": str(found["InstanceId"]),
            "online": found.get("PingStatus") == "Online",
            "linux": found.get("PlatformType") == "Linux",
        }
        for found in answer.get("InstanceInformationList", ())
    ]


def _document(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the version, and what tells the content; nothing of the content itself."""
    return {
        "name": str(answer["Name"]),
        "version": str(answer["DocumentVersion"]),
        "digest": digest(json.loads(answer["Content"])),
    }


def _description(answer: Mapping[str, Any]) -> dict[str, Any]:
    described = answer["Document"]
    return {
        "name": str(described["Name"]),
        "owner": str(described["Owner"]),
        "version": str(described["DocumentVersion"]),
        "hash": str(described["Hash"]),
        "hashType": str(described["HashType"]),
        "status": str(described["Status"]),
    }


def _invocation(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep how far a command is, and the probe document's word or status. Errors: ValueError for a state unknown."""
    state = answer["Status"]
    if state not in _STATES:
        raise ValueError("a state that SSM does not have")
    clean = (
        state == "Success"
        and answer.get("ResponseCode") == 0
        and answer.get("DocumentName") == DOCUMENT
        and not answer.get("StandardErrorContent")
    )
    output = str(answer.get("StandardOutputContent", "")) if clean else ""
    status = answered(output)
    return {
        "command": str(answer["CommandId"]),
        "instance": str(answer["InstanceId"]),
        "state": str(state),
        "outcome": heard(output),
        **({"status": status} if status is not None else {}),
    }


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("ssm", "describe_instance_information"): ListedRead(
        permissions=("ssm:DescribeInstanceInformation",), project=_managed, items="InstanceInformationList"
    ),
    ("ssm", "get_document"): ListedRead(
        permissions=("ssm:GetDocument",), project=_document, missing=("InvalidDocument", "InvalidDocumentVersion")
    ),
    ("ssm", "describe_document"): ListedRead(
        permissions=("ssm:DescribeDocument",),
        project=_description,
        missing=("InvalidDocument", "InvalidDocumentVersion"),
    ),
    ("ssm", "get_command_invocation"): ListedRead(
        permissions=("ssm:GetCommandInvocation",), project=_invocation, missing=("InvocationDoesNotExist",)
    ),
}
