"""Load balancers, fixes: correct the path of the health check, take targets out.

Source: facts on AWS (section 4, row 14), on verification.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, Capacity, DiffLine, Guard, Precondition, Read, Repeat, Undo
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .base import Facts, FixAction, ReasonInfo, register
from .elbv2 import (
    CALL_TIMEOUT,
    EndpointFacts,
    EndpointInputs,
    Requests,
    Target,
    TargetGroup,
    TargetGroupInputs,
    TargetHealthFacts,
    ask_targets,
    fail_alike,
    judge_users,
    measure_requests,
    read_target_group,
    read_target_health,
)
from .ports import Reader

# --- elbv2.set-health-check-path --------------------------------------------------------------------------------------


class SetPathInputs(EndpointInputs):
    """The path to set is the declared one; when users count as well, and by how many requests that is told."""

    max_failure_rate: float = Field(0.05, ge=0, le=1)
    min_requests: int = Field(3, ge=1)


class TargetEffect(Facts):
    """The targets and what users felt since the call."""

    targets: tuple[Target, ...]
    requests: Requests


@register
class SetHealthCheckPath(FixAction[SetPathInputs, EndpointFacts]):
    """Let the load balancer ask the path that the application declares, if every target answers it."""

    name = "elbv2.set-health-check-path"
    title = "Set the health check's path"
    inputs_model = SetPathInputs
    facts_model = EndpointFacts
    reads = (
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "ec2:DescribeInstances",
        "cloudwatch:GetMetricData",
    )
    writes = ("elasticloadbalancing:ModifyTargetGroup",)
    risk = "Low: users are sent where they were sent before; it is made only where every target answers the new path."
    undo = "The path is as it was; targets that do not answer it turn unhealthy again."
    waits = Waits(
        wait=timedelta(seconds=60),
        every=timedelta(seconds=20),
        deadline=timedelta(minutes=6),
        longer="so many intervals as make a target healthy are waited for first, and 4m at least are left after them",
    )
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NoDeclaredPath": ReasonInfo(doc="The run does not say which path the application declares."),
        "PathIsSet": ReasonInfo(doc="The load balancer asks that path already."),
        "PathStillAnswered": ReasonInfo(doc="Every target answers the path that is asked: it is not what is wrong."),
        "PathNotAnswered": ReasonInfo(doc="Not every target answers the declared path: it would hide that they fail."),
        "NoTargets": ReasonInfo(doc="There is no target that could show that the path is right."),
    }

    def observe(self, inputs: SetPathInputs, reader: Reader) -> EndpointFacts:
        """Ask every target both paths."""
        return ask_targets(inputs, reader)

    def plan(self, inputs: SetPathInputs, facts: EndpointFacts) -> PlanDraft | NotApplicable:
        """Plan one call, where every target answers the declared path as the group's matcher wants."""
        group, path = facts.group, inputs.declared_path
        if path is None:
            message = "the run does not say which path the application declares: set the parameter"
            return NotApplicable(reason="NoDeclaredPath", message=message)
        if path == group.path:
            return NotApplicable(reason="PathIsSet", message=f"{group.name} is checked by {path} already")
        if not facts.asked and not facts.not_asked:
            return NotApplicable(reason="NoTargets", message=f"{group.name} has no targets that answer {path}")
        failing = [a for a in facts.asked if not group.accepts(a.declared or "Silent")]
        if facts.not_asked or failing:
            what = f"{failing[0].id} answers {failing[0].declared or 'nothing'}" if failing else "not all were asked"
            message = f"{len(failing) + facts.not_asked} targets of {group.name} do not answer {path}: {what}"
            return NotApplicable(reason="PathNotAnswered", message=message)
        if all(group.accepts(a.configured) for a in facts.asked):
            message = f"every target of {group.name} answers {group.path}: the path is not what is wrong"
            return NotApplicable(reason="PathStillAnswered", message=message)
        read = Read(service="elbv2", operation="describe_target_groups", arguments={"TargetGroupArns": [group.arn]})
        settle = timedelta(seconds=group.healthy_threshold * group.interval)
        return PlanDraft(
            title=f"check {group.name} by {path} instead of {group.path}",
            calls=(self._set(group, path),),
            touches=(group.arn,),
            risk=Risk.LOW,
            region=group.region,
            preconditions=(Precondition(read=read, path="0.HealthCheckPath", equals=group.path),),
            verify=self.waits.verify(
                f"every target of {group.name} is healthy, and users' requests do not fail",
                first=settle,
                at_least=settle + timedelta(minutes=4),
            ),
            diff=(DiffLine(what=f"health check path of {group.name}", before=group.path, after=path),),
            undo=Undo(
                calls=(self._set(group, group.path or "/"),),
                safe_when=f"the path is still {path}; targets that do not answer {group.path} turn unhealthy again",
                guards=(Guard(read=read, path="0.HealthCheckPath"),),
            ),
        )

    @staticmethod
    def _set(group: TargetGroup, path: str) -> Call:
        return Call(
            service="elbv2",
            operation="modify_target_group",
            arguments={"TargetGroupArn": group.arn, "HealthCheckPath": path},
            permissions=("elasticloadbalancing:ModifyTargetGroup",),
            resources=(group.arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            summary=f"check the targets of {group.name} by {path}",
        )

    def applied(self, call: Call, inputs: SetPathInputs, facts: EndpointFacts) -> bool | None:
        """Tell by the path that is set."""
        return bool(facts.group.path == call.arguments["HealthCheckPath"])

    def measure(self, inputs: SetPathInputs, reader: Reader) -> TargetEffect:
        """Read target health, and requests since the call."""
        group = read_target_group(inputs, reader)
        return TargetEffect(
            targets=read_target_health(group.arn, reader, group.region),
            requests=measure_requests(reader, group, reader.since, reader.now),
        )

    def judge(self, inputs: SetPathInputs, before: EndpointFacts, after: TargetEffect) -> Judgement:
        """Every target healthy, and users well: the path alone could hide a broken application."""
        healthy = sum(t.state == "healthy" for t in after.targets)
        told = f"{healthy} of {len(after.targets)} targets of {inputs.label} are healthy"
        if not after.targets or healthy < len(after.targets):
            return Judgement(outcome=None, measured=True, message=told)
        users = judge_users(
            inputs.label,
            after.requests,
            max_failure_rate=inputs.max_failure_rate,
            min_requests=inputs.min_requests,
        )
        return users or Judgement(outcome="Helped", measured=True, message=f"{told}, and users' requests do not fail")


# --- elbv2.deregister-targets -----------------------------------------------------------------------------------------


class DeregisterInputs(TargetGroupInputs):
    """How many healthy targets there must be whatever happens; when users count as well."""

    min_healthy: int = Field(1, ge=1)
    max_failure_rate: float = Field(0.05, ge=0, le=1)
    min_requests: int = Field(3, ge=1)


@register
class DeregisterTargets(FixAction[DeregisterInputs, TargetHealthFacts]):
    """Take unhealthy instances out of the load balancer, while enough healthy ones are left."""

    name = "elbv2.deregister-targets"
    title = "Take unhealthy targets out"
    inputs_model = DeregisterInputs
    facts_model = TargetHealthFacts
    reads = (
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "cloudwatch:GetMetricData",
    )
    writes = ("elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets")
    risk = "Disruptive: requests on their way to those targets are drained, and the others get the rest."
    undo = "The targets are registered again; they have to pass the health check before they get requests."
    waits = Waits(wait=timedelta(minutes=5), every=timedelta(seconds=30), deadline=timedelta(minutes=12))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NoneUnhealthy": ReasonInfo(doc="No target is unhealthy."),
        "AllFailAlike": ReasonInfo(doc="Every target fails alike: taking them out cures nothing."),
        "NoneHealthy": ReasonInfo(doc="No target is healthy: the load balancer sends to all of them."),
        "TooFewHealthy": ReasonInfo(doc="Fewer targets are healthy than there must be."),
        "NotInstances": ReasonInfo(doc="The targets are no instances on the group's own port."),
    }

    def observe(self, inputs: DeregisterInputs, reader: Reader) -> TargetHealthFacts:
        """Read the health of the targets."""
        group = read_target_group(inputs, reader)
        return TargetHealthFacts(group=group, targets=read_target_health(group.arn, reader, group.region))

    def plan(self, inputs: DeregisterInputs, facts: TargetHealthFacts) -> PlanDraft | NotApplicable:
        """Plan one call for the unhealthy ones, never where that takes the last that serve."""
        group, targets = facts.group, facts.targets
        bad = [t for t in targets if t.state == "unhealthy"]
        healthy = sum(t.state == "healthy" for t in targets)
        if not bad:
            return NotApplicable(reason="NoneUnhealthy", message=f"no target of {group.name} is unhealthy")
        if fail_alike(targets):
            message = f"all {len(bad)} targets of {group.name} fail alike ({bad[0].why}): look for what they share"
            return NotApplicable(reason="AllFailAlike", message=message)
        if not healthy:
            message = f"no target of {group.name} is healthy: without these nobody would be served at all"
            return NotApplicable(reason="NoneHealthy", message=message)
        if healthy < inputs.min_healthy:
            message = f"{healthy} targets of {group.name} are healthy; at least {inputs.min_healthy} must be"
            return NotApplicable(reason="TooFewHealthy", message=message)
        out = [t for t in bad if t.id.startswith("i-") and t.port in (None, group.port)][:20]
        if not out:
            message = f"the unhealthy targets of {group.name} are no instances on port {group.port}"
            return NotApplicable(reason="NotInstances", message=message)
        account = group.arn.split(":")[4]
        partition = group.arn.split(":")[1]
        arns = tuple(f"arn:{partition}:ec2:{group.region}:{account}:instance/{t.id}" for t in out)
        chosen = {"fromTargets": {"after": "/", "as": "Id"}}
        names = ", ".join(t.id for t in out)
        read = Read(service="elbv2", operation="describe_target_groups", arguments={"TargetGroupArns": [group.arn]})
        return PlanDraft(
            title=f"take {len(out)} unhealthy of {len(targets)} targets out of {group.name}",
            calls=(self._call("deregister_targets", group, chosen, f"take {names} out of {group.name}"),),
            touches=(group.arn,),
            risk=Risk.DISRUPTIVE,
            region=group.region,
            candidates=arns,
            max_targets=len(arns),
            capacity=Capacity(healthy_before=healthy, healthy_after=healthy, minimum=inputs.min_healthy),
            verify=self.waits.verify(
                f"as many targets of {group.name} are healthy as before, and users' requests do not fail",
            ),
            diff=(
                DiffLine(what=f"targets of {group.name}", before=f"{len(targets)}", after=f"{len(targets) - len(out)}"),
                DiffLine(what="the instances", before="run", after="go on running: an Auto Scaling group that checks "
                         "by EC2 does not replace them"),
            ),
            undo=Undo(
                calls=(self._call("register_targets", group, chosen, f"register {names} with {group.name} again"),),
                safe_when="the instances still run",
                guards=(Guard(read=read, path="0.HealthCheckPath"),),
            ),
        )  # fmt: skip

    @staticmethod
    def _call(operation: str, group: TargetGroup, targets: Mapping[str, Any], summary: str) -> Call:
        permission = {"deregister_targets": "DeregisterTargets", "register_targets": "RegisterTargets"}[operation]
        return Call(
            service="elbv2",
            operation=operation,
            arguments={"TargetGroupArn": group.arn, "Targets": dict(targets)},
            permissions=(f"elasticloadbalancing:{permission}",),
            resources=(group.arn,),
            repeat=Repeat.ABSOLUTE,
            timeout=CALL_TIMEOUT,
            summary=summary[:900],
        )

    def applied(self, call: Call, inputs: DeregisterInputs, facts: TargetHealthFacts) -> bool | None:
        """None: which targets were meant is in the plan's status; both calls may be made again."""
        return None

    def measure(self, inputs: DeregisterInputs, reader: Reader) -> TargetEffect:
        """Read target health, and requests since the call."""
        group = read_target_group(inputs, reader)
        return TargetEffect(
            targets=read_target_health(group.arn, reader, group.region),
            requests=measure_requests(reader, group, reader.since, reader.now),
        )

    def judge(self, inputs: DeregisterInputs, before: TargetHealthFacts, after: TargetEffect) -> Judgement:
        """None unhealthy, as many healthy as before, users well; fewer healthy than before is worse."""
        was = sum(t.state == "healthy" for t in before.targets)
        healthy = sum(t.state == "healthy" for t in after.targets)
        bad = sum(t.state == "unhealthy" for t in after.targets)
        told = f"{healthy} targets of {inputs.label} are healthy, {was} were; {bad} are unhealthy"
        if healthy < min(was, inputs.min_healthy):
            return Judgement(outcome="Worse", measured=True, message=told)
        if healthy < was or bad:
            return Judgement(outcome=None, measured=True, message=told)
        users = judge_users(
            inputs.label,
            after.requests,
            max_failure_rate=inputs.max_failure_rate,
            min_requests=inputs.min_requests,
        )
        return users or Judgement(outcome="Helped", measured=True, message=f"{told}, and users' requests do not fail")
