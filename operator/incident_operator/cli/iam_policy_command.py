"""`kubectl incident iam-policy`: gather runbooks and grants, from files or from the cluster, and print one policy."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..api.grant import ActionGrant
from ..api.runbook import ClusterRunbook, Runbook, RunbookSpec
from .cluster import Cluster, Missing
from .errors import CommandError
from .follow import parsed
from .iam_policy import LIMIT, operator_policy, read_policy, remediation_policy, roles, trust_policy
from .lint import read

_KINDS: dict[str, Any] = {"Runbook": Runbook, "ClusterRunbook": ClusterRunbook, "ActionGrant": ActionGrant}


def print_policy(
    connected: Callable[[], Cluster], role: str, runbooks: Sequence[str], grants: Sequence[str], principal: str | None
) -> None:
    """Print the policy of a role as JSON, and what it leaves out on stderr. Errors: CommandError.

    Shape: the cluster is asked only for what no file gives.
    """
    if role == "trust":
        if not re.match(r"^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:.+$", principal or ""):
            raise CommandError(f"{principal} is no ARN of a role or user")
        policy = trust_policy(principal or "")
    else:
        given = _grants(connected, grants)
        if role == "operator":
            policy = operator_policy(given)
        else:
            _one_role(given, role)
            make = read_policy if role == "read" else remediation_policy
            policy = make(_runbooks(connected, runbooks), given)
    text = json.dumps(policy.document, indent=2)
    click.echo(text)
    for note in policy.notes:
        click.echo(f"note: {note}", err=True)
    if len("".join(text.split())) > LIMIT:
        click.echo(f"note: this is longer than a managed policy may be ({LIMIT}): split it by its statements", err=True)


def _one_role(grants: Sequence[ActionGrant], role: str) -> None:
    """Refuse to mix the roles of several grants: each would get what is the other's. Errors: CommandError."""
    named = {
        g.spec.aws.role_arn if role == "remediation" else (g.spec.aws.read_role_arn or g.spec.aws.role_arn)
        for g in grants
        if g.spec.aws
    }
    if len(named) > 1:
        names = "\n".join(f"--grant {grant.metadata.name}" for grant in grants)
        raise CommandError(f"these grants name {len(named)} roles ({', '.join(sorted(named))}): say which", names)


def _runbooks(connected: Callable[[], Cluster], files: Sequence[str]) -> list[RunbookSpec]:
    found = [o.spec for file in files for o in _objects(file) if isinstance(o, Runbook | ClusterRunbook)]
    if files and not found:
        raise CommandError(f"there is no runbook in {', '.join(files)}")
    if not files:
        cluster = connected()
        stored = [(kind, item) for kind in ("ClusterRunbook", "Runbook") for item in cluster.list(kind).items]
        found = [parsed(_KINDS[kind], item).spec for kind, item in stored]
    if not found:
        raise CommandError(
            "the cluster has no runbook", "name the files: kubectl incident iam-policy FILE... --grant FILE"
        )
    return found


def _grants(connected: Callable[[], Cluster], names: Sequence[str]) -> list[ActionGrant]:
    found: list[ActionGrant] = []
    for name in names:
        if Path(name).exists():
            inside = [o for o in _objects(name) if isinstance(o, ActionGrant)]
            if not inside:
                raise CommandError(f"there is no ActionGrant in {name}")
            found += inside
        else:
            cluster = connected()
            try:
                found.append(parsed(ActionGrant, cluster.get("ActionGrant", "", name)))
            except Missing:
                raise Missing(
                    f"{name} is neither a file nor an ActionGrant of the cluster", "see them: kubectl get actiongrants"
                ) from None
    if not names:
        found = [parsed(ActionGrant, item) for item in connected().list("ActionGrant").items]
    if not found:
        raise CommandError("the cluster has no ActionGrant", "name a file: --grant FILE")
    roles(found)
    return found


def _objects(file: str) -> list[Any]:
    """Return the runbooks and grants of a file. Errors: CommandError."""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} can't be read: {error}") from error
    documents, wrong = read(file, text)
    if wrong:
        raise CommandError(wrong[0].text())
    values = [document.value for document in documents if isinstance(document.value, dict)]
    return [parsed(_KINDS[value["kind"]], value) for value in values if value.get("kind") in _KINDS]
