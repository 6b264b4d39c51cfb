"""`ActionGrant`: what the runs of some namespaces may read and change, as whom. Written by platform admins."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .meta import (
    Automation,
    Column,
    Conditions,
    Duration,
    Instant,
    KubernetesObject,
    Model,
    Resource,
    Severity,
    Text,
    rules,
)
from .plan import Tier

Arn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:[a-z0-9-]+:.*$", max_length=512)]
#: An ARN where `*` stands for any run of characters and `?` for one.
ArnPattern = Annotated[str, Field(pattern=r"^(\*|arn:aws[a-z*-]*:.+)$", max_length=512)]
RoleArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", max_length=512)]


class LabelSelector(Model):
    """Namespaces by their labels; an empty selector is every namespace."""

    match_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict)


class AwsGrant(Model):
    """The AWS side of a grant: identities, regions, resources."""

    role_arn: RoleArn = Field(description="Assumed for each call of a plan, with a session policy of just that call.")
    read_role_arn: RoleArn | None = Field(None, description="Assumed for reading; roleArn where it is left out.")
    regions: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", max_length=32)], ...],
        Field(min_length=1, max_length=32),
    ]
    resources: Annotated[tuple[ArnPattern, ...], Field(min_length=1, max_length=128)] = Field(
        description="What plans may touch."
    )
    protected_actors: Annotated[tuple[ArnPattern, ...], Field(max_length=32)] = Field(
        (), description="Whose removals of access are on purpose: never restored by a machine."
    )

    @property
    def account(self) -> str:
        """The account of the role, twelve digits."""
        return self.role_arn.split(":")[4]


class RestorableAccess(Model):
    """Access that a fix may give back by itself. Source: decision 24."""

    role: ArnPattern
    actions: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(min_length=1, max_length=32)]
    resources: Annotated[tuple[ArnPattern, ...], Field(min_length=1, max_length=32)]


SecurityGroupId = Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$", max_length=20)]


class RestorablePath(Model):
    """A way between two security groups that a fix may open again by itself. Source: decision 24."""

    source: SecurityGroupId = Field(alias="from", description="The group that connects, by id.")
    target: SecurityGroupId = Field(alias="to", description="The group that is connected to, by id.")
    port: Annotated[int, Field(ge=1, le=65535, description="TCP.")]


class Restorable(Model):
    """What fixes may restore without asking."""

    access: Annotated[tuple[RestorableAccess, ...], Field(max_length=32)] = ()
    paths: Annotated[tuple[RestorablePath, ...], Field(max_length=32)] = ()


class Probes(Model):
    """Where probes (`http.get`, `tcp.connect`) and the connections of runs may lead."""

    model_config = rules(
        (
            "!has(self.hosts) || self.hosts.all(h, h != '169.254.169.254' && h != 'metadata.google.internal')",
            "a metadata address is never a probe's host",
        ),
    )

    hosts: Annotated[tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=64)] = ()
    cidrs: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=64)] = ()
    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(max_length=64)] = ()
    instances: Annotated[tuple[ArnPattern, ...], Field(max_length=32)] = Field(
        (),
        description="EC2 instances that probes may be made from, through SSM and the document IncidentOperator-Probe; "
        "left out: from none.",
    )


class SelfApproval(StrEnum):
    """Whether who asked for a run may agree to its plans."""

    ALWAYS = "Always"
    #: On P0 and P1.
    SEVERE = "Severe"
    NEVER = "Never"


class ApprovalRule(Model):
    """Who must agree to a plan of one tier, and for how long their word holds."""

    approvers: Annotated[int, Field(ge=1, le=5)] = Field(description="Distinct people.")
    self_approve: SelfApproval = Field(
        SelfApproval.NEVER,
        description="Whether who asked for the run may be one of them: Always, Severe (on P0 and P1) or Never.",
    )
    valid_for: Annotated[
        Duration, Field(json_schema_extra={"default": "1h"}, description="How long an approval holds.")
    ] = timedelta(hours=1)

    def lets_requester(self, severity: Severity) -> bool:
        """Tell whether the run's requester may be one of the approvers."""
        severe = severity in (Severity.P0, Severity.P1)
        return self.self_approve == SelfApproval.ALWAYS or (self.self_approve == SelfApproval.SEVERE and severe)


class Approvals(Model):
    """The rule of each tier; what is left out is as the design says."""

    low: ApprovalRule = Field(ApprovalRule(approvers=1, self_approve=SelfApproval.ALWAYS), alias="Low")
    disruptive: ApprovalRule = Field(ApprovalRule(approvers=1, self_approve=SelfApproval.SEVERE), alias="Disruptive")
    destructive: ApprovalRule = Field(ApprovalRule(approvers=2), alias="Destructive")
    security: ApprovalRule = Field(ApprovalRule(approvers=2), alias="Security")

    def rule(self, tier: Tier) -> ApprovalRule:
        """Return the rule of a tier."""
        rule: ApprovalRule = getattr(self, tier.lower())
        return rule


class Suspension(Model):
    """Why nothing may be changed under this grant now."""

    reason: Annotated[Text, Field(min_length=1)] = Field(description="Shown to everybody whose plan it blocks.")


class Freeze(Model):
    """A time in which nothing is changed, unless an approval overrides Frozen."""

    model_config = rules(("self.from < self.until", "a freeze ends after it begins"))

    since: Instant = Field(alias="from", description="The first instant of it.")
    until: Instant = Field(description="The first instant after it.")
    reason: Annotated[Text, Field(min_length=1)] = Field(description="Shown to everybody whose plan it blocks.")


class ActionGrantSpec(Model):
    """Who may do what, where."""

    description: Text | None = None
    namespace_selector: LabelSelector = Field(description="The namespaces whose runs this grant is for.")
    aws: AwsGrant | None = None
    actions: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z0-9.*-]+$", max_length=64)], ...], Field(min_length=1, max_length=64)
    ] = Field(description="Catalogue actions, checks and fixes: `lambda.*`, `iam.restore-role-access`.")
    automation: Automation = Automation()
    restorable: Restorable = Restorable()
    probes: Probes = Probes()
    approvals: Approvals = Field(
        Approvals(), description="Who must agree to plans of each tier, besides what automation lets be applied."
    )
    suspended: Suspension | None = Field(None, description="Set by `kubectl incident halt`: no call is made any more.")
    freezes: Annotated[tuple[Freeze, ...], Field(max_length=32)] = Field(
        (), description="Times in which nothing is changed, unless an approval overrides Frozen."
    )


class ActionGrantStatus(Model):
    """Whether the grant can be used."""

    observed_generation: int | None = None
    conditions: Conditions = ()


class ActionGrant(KubernetesObject):
    """What some namespaces' runs may touch, as whom."""

    resource: ClassVar[Resource] = Resource(
        kind="ActionGrant",
        plural="actiongrants",
        short_names=("agrant",),
        scope="Cluster",
        columns=(
            Column(name="Role", json_path=".spec.aws.roleArn"),
            Column(name="Apply-Up-To", json_path=".spec.automation.applyUpTo"),
            Column(name="Ask-Up-To", json_path=".spec.automation.askUpTo"),
            Column(name="Suspended", json_path=".spec.suspended.reason"),
            Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        ),
    )

    kind: Literal["ActionGrant"] = "ActionGrant"
    spec: ActionGrantSpec
    status: ActionGrantStatus = ActionGrantStatus()

    def selects(self, namespace_labels: dict[str, Any]) -> bool:
        """Tell whether the grant is for a namespace with these labels."""
        return all(namespace_labels.get(k) == v for k, v in self.spec.namespace_selector.match_labels.items())
