"""The least IAM policies under which runbooks can be run: from the catalogue's own lists, as JSON documents. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..actions.base import FixAction
from ..actions.catalogue import catalogue
from ..actions.reads import READS
from ..actions.vantage import DOCUMENT, PROBE
from ..api.grant import ActionGrant, AwsGrant
from ..api.runbook import Check, Fix, RunbookSpec
from ..core.risk import matches
from .errors import CommandError

Document = dict[str, Any]
#: A managed policy may have so many characters, white space not counted.
LIMIT = 6144
#: The operator asks of each plan, by simulation, whether the grant's role may make its calls.
_SIMULATION = "iam:SimulatePrincipalPolicy"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy document, and what whoever attaches it must know of what it leaves out."""

    document: Document
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What runbooks need of IAM under a grant, and what could not be told.

    Shape: `probed` are the instances that the probe document is sent to, as ARN patterns.
    """

    reads: tuple[str, ...]
    probed: tuple[str, ...]
    writes: tuple[str, ...]
    notes: tuple[str, ...]


def needs(runbooks: Sequence[RunbookSpec], grant: ActionGrant) -> Needs:
    """Return what the checks and fixes of runbooks read and call, as far as the grant permits their actions.

    Errors: CommandError for an action that the catalogue does not have.
    """
    reads: set[str] = set()
    writes: set[str] = set()
    probed: set[str] = set()
    notes: list[str] = []
    actions = catalogue()
    for runbook in runbooks:
        entries: list[Check | Fix] = [*runbook.every_check, *runbook.fixes]
        for entry in entries:
            action = actions.get(entry.action)
            if action is None:
                raise CommandError(
                    f"{runbook.title}: there is no action {entry.action!r}", "see them all: kubectl incident explain"
                )
            if not matches(entry.action, grant.spec.actions):
                notes.append(
                    f"{entry.name} is left out: ActionGrant {grant.metadata.name} does not list {entry.action}"
                )
                continue
            reads |= set(action.reads)
            if action.reads_from_instances and grant.spec.probes.instances:
                reads |= set(action.reads_from_instances)
                probed |= set(grant.spec.probes.instances)
            elif action.reads_from_instances and _may_ask_instances(runbook, entry):
                name = grant.metadata.name
                notes.append(f"{entry.name} can't ask instances: the probes of ActionGrant {name} list none")
            if entry.action == "aws.query":
                asked = (entry.inputs.get("service"), entry.inputs.get("operation"))
                listed = READS.get((str(asked[0]), str(asked[1])))
                reads |= set(listed.permissions if listed else ())
                if listed is None:
                    notes.append(f"{entry.name} asks for what is decided at run time: add its permission by hand")
            if isinstance(action, FixAction):
                writes |= set(action.writes)
                reads.add(_SIMULATION)
    return Needs(
        reads=tuple(sorted(reads)),
        probed=tuple(sorted(probed)),
        writes=tuple(sorted(writes)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _may_ask_instances(runbook: RunbookSpec, entry: Check | Fix) -> bool:
    """Tell whether an entry says, or is given by a parameter, from where it probes."""
    return "vantage" in entry.inputs or any(parameter.name == "vantage" for parameter in runbook.parameters)


def read_policy(runbooks: Sequence[RunbookSpec], grants: Sequence[ActionGrant]) -> Policy:
    """Return what the reading role needs. Reads are not limited to resources: most of them have none to name.

    What it may send is: one document, to the instances that the grants list.
    """
    all_ = [needs(runbooks, grant) for grant in grants]
    reads = sorted({permission for one in all_ for permission in one.reads})
    statements = [_allow("Read", reads, ["*"])] if reads else []
    return _policy([*statements, *_probes(grants, all_)], [note for one in all_ for note in one.notes])


def _probes(grants: Sequence[ActionGrant], of_each: Sequence[Needs]) -> list[Document]:
    """Return the statement for probes from instances; none where no grant lists any."""
    resources: set[str] = set()
    for grant, one in zip(grants, of_each, strict=True):
        aws = _aws(grant)
        document = f"arn:{aws.role_arn.split(':')[1]}:ssm:*:{aws.account}:document/{DOCUMENT}"
        resources |= {document, *one.probed} if one.probed else set()
    return [_allow("Probe", [PROBE], sorted(resources))] if resources else []


def remediation_policy(runbooks: Sequence[RunbookSpec], grants: Sequence[ActionGrant]) -> Policy:
    """Return what the role of changes needs: the calls of the fixes, on what the grants list, service by service."""
    statements: list[Document] = []
    notes: list[str] = []
    pairs: dict[str, tuple[set[str], set[str]]] = {}
    reads: set[str] = set()
    reading: list[tuple[ActionGrant, Needs]] = []
    for grant in grants:
        one, aws = needs(runbooks, grant), _aws(grant)
        notes += one.notes
        # The reading role is this one, where the grant names no other.
        if aws.read_role_arn in (None, aws.role_arn):
            reads |= set(one.reads)
            reading.append((grant, one))
        for permission in one.writes:
            service = permission.split(":")[0]
            actions, resources = pairs.setdefault(service, (set(), set()))
            actions.add(permission)
            resources |= {arn for arn in aws.resources if arn == "*" or arn.split(":")[2] in (service, "*")}
    for service, (actions, resources) in sorted(pairs.items()):
        if resources:
            statements.append(_allow(f"Fix{service.title().replace('-', '')}", sorted(actions), sorted(resources)))
        else:
            notes.append(f"{', '.join(sorted(actions))} left out: the grant lists no resource of {service}")
    if reads:
        statements.append(_allow("Read", sorted(reads), ["*"]))
    statements += _probes([grant for grant, _ in reading], [one for _, one in reading])
    return _policy(statements, notes)


def operator_policy(grants: Sequence[ActionGrant]) -> Policy:
    """Return what the operator's own identity needs: to assume the roles of the grants, and nothing else."""
    return _policy([_allow("AssumeOnly", ["sts:AssumeRole"], roles(grants))], [])


def trust_policy(principal: str) -> Policy:
    """Return the trust policy of the grants' roles: the operator's identity alone may assume them."""
    statement = {
        "Sid": "IncidentOperator",
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    }
    return _policy([statement], [])


def roles(grants: Iterable[ActionGrant]) -> list[str]:
    """Return every role that the grants name."""
    named = [arn for grant in grants for arn in (_aws(grant).role_arn, _aws(grant).read_role_arn) if arn]
    return sorted(set(named))


def _aws(grant: ActionGrant) -> AwsGrant:
    if grant.spec.aws is None:
        raise CommandError(f"ActionGrant {grant.metadata.name} has no aws section: it needs no IAM policy")
    return grant.spec.aws


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _policy(statements: Sequence[Mapping[str, Any]], notes: Iterable[str]) -> Policy:
    """Return the policy. Errors: CommandError for an empty one, which IAM refuses."""
    if not statements:
        raise CommandError("there is nothing to allow", "\n".join(dict.fromkeys(notes)))
    document = {"Version": "2012-10-17", "Statement": [dict(statement) for statement in statements]}
    return Policy(document=document, notes=tuple(dict.fromkeys(notes)))
