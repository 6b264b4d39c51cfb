"""Auto Scaling groups that hold their capacity: they launch, register, check, replace and terminate real instances.

moto keeps the records of groups, policies and scheduled actions; what follows from them is done here, beat by beat, so
that a group's instances pass through their lifecycle states while anybody may look. Suspended processes are obeyed.

As AWS documents it, an instance that was marked Unhealthy never becomes Healthy by itself: while ReplaceUnhealthy is
suspended it stays marked, and is replaced when the process resumes, unless somebody calls SetInstanceHealth.
Source: "Health checks for instances in an Auto Scaling group", "Suspend and resume processes".
"""

import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.autoscaling.models import (
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
    autoscaling_backends,
)
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.exceptions import ServiceException

from ..alarms import Alarms
from ..identity import Principal
from ..permissions import Need
from ..wire import Call, Refused, Reply
from .balancing import deregister, drain_delay, health_of
from .instances import GROUP_TAG, machine_of
from .service import Forward, Handler, Needs, Parts, Service

PROCESSES = frozenset(
    {
        "Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck",
        "InstanceRefresh", "ReplaceUnhealthy", "ScheduledActions",
    }
)  # fmt: skip
_ACTIVITIES_KEPT = 200
_RETRY = timedelta(seconds=30)
_PAGE = 100


@dataclass(kw_only=True)
class Activity:
    """One scaling activity. Shape: `status` is InProgress, Successful or Failed."""

    description: str
    cause: str
    started: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    message: str = ""
    ended: datetime | None = None


@dataclass(kw_only=True)
class Refresh:
    """An instance refresh. Shape: `old` are the instances still to be replaced; `minimum` percent stay healthy."""

    started: datetime
    minimum: float
    old: list[str]
    total: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    ended: datetime | None = None


@dataclass(kw_only=True)
class Course:
    """What goes on in a group.

    Shape: `launching`, `terminating` are the activities of instances by id; `because` explains the next change of
    capacity; `cooled` is when the cooldown ends, `retry` when a failed launch may be repeated.
    """

    activities: list[Activity] = field(default_factory=list)
    launching: dict[str, Activity] = field(default_factory=dict)
    terminating: dict[str, tuple[Activity, datetime]] = field(default_factory=dict)
    in_service: dict[str, datetime] = field(default_factory=dict)
    because: str = ""
    cooled: datetime | None = None
    retry: datetime | None = None
    refreshes: list[Refresh] = field(default_factory=list)

    def begin(self, description: str, cause: str, now: datetime) -> Activity:
        """Add an activity."""
        made = Activity(description=description, cause=cause, started=now)
        self.activities.insert(0, made)
        del self.activities[_ACTIVITIES_KEPT:]
        return made


def course_of(group: Any) -> Course:
    """Return what goes on in a group."""
    found: Course = vars(group).setdefault("course", Course())
    return found


def suspended(group: Any, process: str) -> bool:
    """Tell whether a process of a group is suspended."""
    return any(p["ProcessName"] == process for p in group.suspended_processes)


def _suspensions(group: Any) -> list[dict[str, str]]:
    """Return what is suspended, and since when: moto leaves the reason empty."""
    at = vars(group).get("suspended_at", {})
    return [
        {"ProcessName": name, "SuspensionReason": f"User suspended at {at[name]}" if name in at else ""}
        for name in group._suspended_processes
    ]


def _suspend(group: Any, names: list[str]) -> None:
    group._suspended_processes = names


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


class Scaling(Service):
    """Keeps all groups at their capacity."""

    beat = 0.1

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._alarms = Alarms(clock=parts.clock, metrics=parts.metrics)
        # moto launches and terminates at once and in one breath; here the number is all that a call changes.
        FakeAutoScalingGroup.set_desired_capacity = _note_capacity  # type: ignore[method-assign,assignment]
        AutoScalingBackend.update_attached_target_groups = lambda *_: None  # type: ignore[method-assign]
        AutoScalingBackend.notify_terminate_instances = lambda *_: None  # type: ignore[method-assign]
        FakeAutoScalingGroup.suspended_processes = property(_suspensions, _suspend)  # type: ignore[assignment]
        InstanceState.launch_template = property(_template_of)  # type: ignore[assignment,method-assign]

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return what moto is too lenient with, or has not got."""
        own: dict[str, Handler] = {
            "SetDesiredCapacity": self._set_desired,
            "UpdateAutoScalingGroup": self._update,
            "CreateAutoScalingGroup": self._create,
            "DeleteAutoScalingGroup": self._delete,
            "DescribeScalingActivities": self._activities,
            "TerminateInstanceInAutoScalingGroup": self._terminate_in_group,
            "SetInstanceHealth": self._set_health,
            "PutScheduledUpdateGroupAction": self._schedule,
            "ExecutePolicy": self._execute,
            "StartInstanceRefresh": self._refresh,
            "DescribeInstanceRefreshes": self._refreshes,
            "CancelInstanceRefresh": self._cancel_refresh,
            "SuspendProcesses": self._processes,
            "ResumeProcesses": self._processes,
            "AttachLoadBalancerTargetGroups": self._existing,
            "DetachLoadBalancerTargetGroups": self._existing,
            "DescribePolicies": self._existing,
            "PutScalingPolicy": self._put_policy,
        }
        return {("autoscaling", operation): handler for operation, handler in own.items()}

    def needs(self) -> Mapping[str, Needs]:
        """Return the needs of Auto Scaling's calls."""
        return {"autoscaling": _needs}

    # --- calls ------------------------------------------------------------------------------------------------

    def _existing(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        name = call.arguments.get("AutoScalingGroupName")
        if name:
            _named(call, principal)
        return forward()

    def _put_policy(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _named(call, principal)
        if call.arguments.get("PolicyType", "SimpleScaling") not in ("SimpleScaling", "StepScaling"):
            raise Refused("ValidationError", "The simulator scales by SimpleScaling and StepScaling policies only.")
        reply = forward()
        if reply.status >= 400:
            return reply
        policies = autoscaling_backends[principal.account][call.region].policies
        return call.answer({"PolicyARN": policies[call.arguments["PolicyName"]].arn, "Alarms": []})

    def _create(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        asked = call.arguments
        low, high = int(asked["MinSize"]), int(asked["MaxSize"])
        _check_bounds(low, high, asked.get("DesiredCapacity"))
        name = asked["AutoScalingGroupName"]
        if name in autoscaling_backends[principal.account][call.region].autoscaling_groups:
            message = f"AutoScalingGroup by this name already exists - A group with the name {name} already exists"
            raise Refused("AlreadyExists", message)
        return forward()

    def _update(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group, asked = _named(call, principal), call.arguments
        low = int(asked["MinSize"]) if asked.get("MinSize") is not None else group.min_size
        high = int(asked["MaxSize"]) if asked.get("MaxSize") is not None else group.max_size
        _check_bounds(low, high, asked.get("DesiredCapacity"))
        before = group.desired_capacity
        mixed = group.mixed_instances_policy
        reply = forward()
        if reply.status >= 400:
            return reply
        if asked.get("MixedInstancesPolicy") is None:
            group.mixed_instances_policy = mixed
        if asked.get("DefaultCooldown") is not None:
            group.default_cooldown = int(asked["DefaultCooldown"])
        if asked.get("DesiredCapacity") is None:
            group.desired_capacity = min(max(before, low), high)
        now = self.parts.clock.now()
        if group.desired_capacity != before:
            course_of(group).because = (
                f"At {_stamp(now)} a user request update of AutoScalingGroup constraints to min: {low}, max: {high}, "
                f"desired: {group.desired_capacity} changing the desired capacity from {before} to "
                f"{group.desired_capacity}."
            )
        return reply

    def _set_desired(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group, wanted = _named(call, principal), int(call.arguments["DesiredCapacity"])
        _check_desired(group, wanted)
        course, now = course_of(group), self.parts.clock.now()
        if _true(call.arguments.get("HonorCooldown")) and course.cooled is not None and course.cooled > now:
            newest = course.activities[0].id if course.activities else ""
            message = f"Scaling activity {newest} is in progress and blocks this action"
            raise Refused("ScalingActivityInProgress", message)
        if wanted != group.desired_capacity:
            course.because = (
                f"At {_stamp(now)} a user request explicitly set group desired capacity changing the desired capacity "
                f"from {group.desired_capacity} to {wanted}."
            )
        group.desired_capacity = wanted
        return call.answer({})

    def _delete(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        if group.instance_states and not _true(call.arguments.get("ForceDelete")):
            message = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance "
            raise Refused("ResourceInUse", message + "request(s) still in the group.")
        for state in group.instance_states:
            _leave_target_groups(group, state, self.parts.clock.now())
        ids = [state.instance.id for state in group.instance_states]
        if ids:
            group.ec2_backend.terminate_instances(ids)
        group.instance_states = []
        return forward()

    def _activities(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        backend = autoscaling_backends[principal.account][call.region]
        name = call.arguments.get("AutoScalingGroupName")
        groups = [_named(call, principal)] if name else list(backend.autoscaling_groups.values())
        wanted = call.arguments.get("ActivityIds") or ()
        found = [
            (activity, group)
            for group in groups
            for activity in course_of(group).activities
            if not wanted or activity.id in wanted
        ]
        found.sort(key=lambda pair: pair[0].started, reverse=True)
        start = int(call.arguments.get("NextToken") or 0)
        end = start + min(int(call.arguments.get("MaxRecords") or _PAGE), _PAGE)
        more = {"NextToken": str(end)} if end < len(found) else {}
        return call.answer({"Activities": [_activity(a, g) for a, g in found[start:end]], **more})

    def _terminate_in_group(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group, state = _member(call, principal)
        course, now = course_of(group), self.parts.clock.now()
        identity = state.instance.id
        if state.lifecycle_state.startswith("Terminating"):
            return call.answer({"Activity": _activity(course.terminating[identity][0], group)})
        before = group.desired_capacity
        cause = f"At {_stamp(now)} instance {identity} was taken out of service in response to a user request"
        if _true(call.arguments["ShouldDecrementDesiredCapacity"]):
            if before - 1 < group.min_size:
                raise Refused(
                    "ValidationError",
                    f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without "
                    "replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity "
                    "flag to false or lower group's min size.",
                )
            group.desired_capacity = before - 1
            cause += f", shrinking the capacity from {before} to {before - 1}"
        self._terminate(group, state, f"{cause}.", now)
        return call.answer({"Activity": _activity(course.terminating[identity][0], group)})

    def _set_health(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group, state = _member(call, principal)
        status = call.arguments["HealthStatus"]
        if status not in ("Healthy", "Unhealthy"):
            message = "Valid instance health states are: [Healthy, Unhealthy]."
            raise Refused("ValidationError", message)
        if state.lifecycle_state.startswith("Terminating"):
            message = f"Instance {state.instance.id} is not in InService or Standby, its health can't be set."
            raise Refused("ValidationError", message)
        respect = call.arguments.get("ShouldRespectGracePeriod")
        if status == "Unhealthy" and (respect is None or _true(respect)) and self._in_grace(group, state):
            return call.answer({})
        state.health_status = status
        return call.answer({})

    def _schedule(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        _named(call, principal)
        asked = call.arguments
        if asked.get("Recurrence"):
            raise Refused("ValidationError", "The simulator runs scheduled actions once, at StartTime.")
        start = asked.get("StartTime") or asked.get("Time")
        if start is None or _instant(start) <= self.parts.clock.now():
            raise Refused("ValidationError", "Given start time is in the past")
        low, high = asked.get("MinSize"), asked.get("MaxSize")
        if low is not None and high is not None and int(low) > int(high):
            raise Refused("ValidationError", f"Max bound, {high}, must be greater than or equal to min bound, {low}")
        return forward()

    def _execute(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        backend = autoscaling_backends[principal.account][call.region]
        name = str(call.arguments["PolicyName"])
        policy = next((p for p in backend.policies.values() if name in (p.name, p.arn)), None)
        if policy is None:
            raise Refused("ValidationError", f"PolicyName not found - Policy '{name}' not found")
        group = backend.autoscaling_groups[policy.auto_scaling_group_name]
        self._apply_policy(group, policy, f"a user request executed policy {policy.name}", self.parts.clock.now())
        return call.answer({})

    def _processes(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        asked = set(call.arguments.get("ScalingProcesses") or PROCESSES)
        if unknown := sorted(asked - PROCESSES):
            raise Refused("ValidationError", f"{unknown[0]} is not a valid process type")
        now = {p["ProcessName"] for p in group.suspended_processes}
        if call.operation == "SuspendProcesses":
            at = _stamp(self.parts.clock.now())
            vars(group).setdefault("suspended_at", {}).update(dict.fromkeys(asked - now, at))
        group.suspended_processes = sorted(now | asked if call.operation == "SuspendProcesses" else now - asked)
        return call.answer({})

    def _refresh(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        course, now = course_of(group), self.parts.clock.now()
        if any(r.status == "InProgress" for r in course.refreshes):
            message = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."
            raise Refused("InstanceRefreshInProgress", message)
        preferences = call.arguments.get("Preferences") or {}
        minimum = preferences.get("MinHealthyPercentage")
        old = [s.instance.id for s in group.instance_states if not s.lifecycle_state.startswith("Terminating")]
        refresh = Refresh(started=now, minimum=float(90 if minimum is None else minimum), old=old, total=len(old))
        course.refreshes.insert(0, refresh)
        return call.answer({"InstanceRefreshId": refresh.id})

    def _cancel_refresh(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        found = [r for r in course_of(_named(call, principal)).refreshes if r.status == "InProgress"]
        if not found:
            message = "No in progress or pending Instance Refresh found for Auto Scaling group "
            raise Refused("ActiveInstanceRefreshNotFound", message + call.arguments["AutoScalingGroupName"])
        found[0].status, found[0].ended = "Cancelled", self.parts.clock.now()
        return call.answer({"InstanceRefreshId": found[0].id})

    def _refreshes(self, call: Call, principal: Principal, forward: Forward) -> Reply:
        group = _named(call, principal)
        wanted = call.arguments.get("InstanceRefreshIds") or ()
        found = [
            {
                "InstanceRefreshId": r.id,
                "AutoScalingGroupName": group.name,
                "Status": r.status,
                "StartTime": r.started,
                **({"EndTime": r.ended} if r.ended else {}),
                "PercentageComplete": 100 * (r.total - len(r.old)) // r.total if r.total else 100,
                "InstancesToUpdate": len(r.old),
            }
            for r in course_of(group).refreshes
            if not wanted or r.id in wanted
        ]
        return call.answer({"InstanceRefreshes": found})

    # --- state ------------------------------------------------------------------------------------------------

    def dump(self, account: str) -> Mapping[str, Any]:
        """Return groups by name: their settings, and how many instances; not which, for these come and go."""
        groups = {}
        for region in sorted(autoscaling_backends[account]):
            backend = autoscaling_backends[account][region]
            for group in backend.autoscaling_groups.values():
                groups[f"{region}/{group.name}"] = {
                    **_configuration(group),
                    "scheduled": {
                        a.scheduled_action_name: [a.min_size, a.max_size, a.desired_capacity]
                        for a in backend.describe_scheduled_actions(group.name)
                    },
                }
        return {"autoScalingGroups": groups} if groups else {}

    def touched(self, call: Call, account: str) -> Any:
        """Return a group's settings."""
        if call.service != "autoscaling":
            return None
        backend = autoscaling_backends[account][call.region]
        group = backend.autoscaling_groups.get(call.arguments.get("AutoScalingGroupName", ""))
        if group is None:
            identity = call.arguments.get("InstanceId")
            group = next((s.auto_scaling_group for s in backend.describe_auto_scaling_instances([identity])), None)
        return _configuration(group) if group is not None else None

    # --- what goes on by itself -------------------------------------------------------------------------------

    def keep_house(self) -> None:
        """Bring each group a step nearer to what it is to be."""
        now = self.parts.clock.now()
        for account in list(autoscaling_backends):
            for region in list(autoscaling_backends[account]):
                backend = autoscaling_backends[account][region]
                for group in list(backend.autoscaling_groups.values()):
                    try:
                        self._keep(backend, group, now)
                    except Exception:  # one group's trouble must not hold up all others; the log says what it was
                        traceback.print_exc()

    def _keep(self, backend: Any, group: Any, now: datetime) -> None:
        self._run_scheduled(backend, group, now)
        self._heed_alarms(backend, group, now)
        self._advance(group, now)
        self._check_health(group, now)
        self._go_on_refreshing(group, now)
        self._scale(group, now)

    def _run_scheduled(self, backend: Any, group: Any, now: datetime) -> None:
        for action in backend.describe_scheduled_actions(group.name):
            if _instant(action.start_time) > now:
                continue
            del backend.scheduled_actions[action.scheduled_action_name]
            if suspended(group, "ScheduledActions"):
                continue
            before = group.desired_capacity
            low = group.min_size if action.min_size is None else action.min_size
            high = group.max_size if action.max_size is None else action.max_size
            if low > high:
                continue
            group.min_size, group.max_size = low, high
            wanted = before if action.desired_capacity is None else action.desired_capacity
            group.desired_capacity = min(max(wanted, low), high)
            course_of(group).because = (
                f"At {_stamp(now)} the scheduled action {action.scheduled_action_name} executed. Setting desired "
                f"capacity from {before} to {group.desired_capacity}."
            )

    def _heed_alarms(self, backend: Any, group: Any, now: datetime) -> None:
        """Execute the policies whose alarm is in state ALARM, once per cooldown."""
        policies, course = backend.describe_policies(group.name), course_of(group)
        if not policies or suspended(group, "AlarmNotification"):
            return
        if course.cooled is not None and course.cooled > now:
            return
        self._alarms.judge(group.account_id, group.region)
        alarms = cloudwatch_backends[group.account_id][group.region].alarms
        ringing = [a for a in alarms.values() if a.actions_enabled and a.state_value == "ALARM"]
        for policy in policies:
            rang = next((a for a in ringing if policy.arn in (a.alarm_actions or ())), None)
            if rang is not None:
                why = f"a monitor alarm {rang.name} in state ALARM triggered policy {policy.name}"
                self._apply_policy(group, policy, why, now)
                return

    def _apply_policy(self, group: Any, policy: Any, why: str, now: datetime) -> None:
        before, change = group.desired_capacity, policy.scaling_adjustment
        if change is None and policy.step_adjustments:
            change = int(policy.step_adjustments[0]["ScalingAdjustment"])
        if change is None:
            return
        if policy.adjustment_type == "ExactCapacity":
            wanted = change
        elif policy.adjustment_type == "PercentChangeInCapacity":
            step = before * change / 100
            wanted = before + (int(step) if abs(step) >= 1 else (step > 0) - (step < 0))
        else:
            wanted = before + change
        wanted = min(max(wanted, group.min_size), group.max_size)
        seconds = policy.cooldown if policy.cooldown is not None else group.default_cooldown
        course = course_of(group)
        course.cooled = now + self.parts.clock.scaled(timedelta(seconds=int(seconds)))
        if wanted != before:
            group.desired_capacity = wanted
            course.because = f"At {_stamp(now)} {why} changing the desired capacity from {before} to {wanted}."

    def _advance(self, group: Any, now: datetime) -> None:
        """Take into service who is up, and let go who has drained."""
        course = course_of(group)
        for state in list(group.instance_states):
            identity, instance = state.instance.id, state.instance
            if state.lifecycle_state == "Pending":
                machine = machine_of(instance)
                if instance.state in ("terminated", "stopped"):
                    self._failed(group, state, instance.state_reason.message, now)
                elif machine is None or machine.ready:
                    state.lifecycle_state = "InService"
                    course.in_service[identity] = now
                    _finish(course.launching.pop(identity, None), now)
                    course.cooled = now + self.parts.clock.scaled(timedelta(seconds=int(group.default_cooldown)))
                    if not suspended(group, "AddToLoadBalancer"):
                        for target_group in _target_groups(group):
                            target_group.register([{"Id": identity, "Port": target_group.port}])
            elif state.lifecycle_state == "Terminating":
                activity, until = course.terminating[identity]
                if until <= now:
                    if instance.state != "terminated":
                        group.ec2_backend.terminate_instances([identity])
                    group.instance_states.remove(state)
                    del course.terminating[identity]
                    _finish(activity, now)

    def _failed(self, group: Any, state: Any, why: str, now: datetime) -> None:
        course = course_of(group)
        activity = course.launching.pop(state.instance.id, None)
        group.instance_states.remove(state)
        course.retry = now + self.parts.clock.scaled(_RETRY)
        if activity is not None:
            activity.status, activity.message, activity.ended = "Failed", why, now

    def _in_grace(self, group: Any, state: Any) -> bool:
        since = course_of(group).in_service.get(state.instance.id)
        grace = self.parts.clock.scaled(timedelta(seconds=int(group.health_check_grace_period or 0)))
        return since is None or self.parts.clock.now() < since + grace

    def _check_health(self, group: Any, now: datetime) -> None:
        for state in list(group.instance_states):
            if state.lifecycle_state != "InService":
                continue
            identity = state.instance.id
            cause = ""
            if state.instance.state != "running":
                word = "terminated" if state.instance.state == "terminated" else "stopped"
                cause = f"an EC2 health check indicating it has been terminated or stopped ({word})"
            elif group.health_check_type == "ELB" and not self._in_grace(group, state):
                unhealthy = [g for g in _target_groups(group) if health_of(g, identity).state == "unhealthy"]
                cause = "an ELB system health check failure" if unhealthy else ""
            if cause and not suspended(group, "HealthCheck"):
                state.health_status = "Unhealthy"
            if state.health_status == "Unhealthy" and not (
                suspended(group, "ReplaceUnhealthy") or suspended(group, "Terminate")
            ):
                said = f"At {_stamp(now)} an instance was taken out of service in response to "
                self._terminate(group, state, f"{said}{cause or 'a user health-check'}.", now)

    def _go_on_refreshing(self, group: Any, now: datetime) -> None:
        """Replace as many old instances as the share of healthy ones allows."""
        refresh = next((r for r in course_of(group).refreshes if r.status == "InProgress"), None)
        if refresh is None or suspended(group, "InstanceRefresh"):
            return
        present = {s.instance.id: s for s in group.instance_states if s.lifecycle_state != "Terminating"}
        refresh.old = [identity for identity in refresh.old if identity in present]
        good = [i for i, s in present.items() if s.lifecycle_state == "InService" and _serves(group, i)]
        if not refresh.old:
            if len(good) >= group.desired_capacity or (refresh.minimum == 0 and len(present) >= group.desired_capacity):
                refresh.status, refresh.ended = "Successful", now
            return
        # At least one at a time, as AWS does, however high the share that must stay; never while any is missing.
        needed = int(-(-group.desired_capacity * refresh.minimum // 100))
        spare = len(good) - needed
        if spare <= 0 and len(good) >= group.desired_capacity:
            spare = 1
        if refresh.minimum == 0:
            spare = len(refresh.old)
        for identity in refresh.old[: max(spare, 0)]:
            cause = f"At {_stamp(now)} an instance was taken out of service in response to an instance refresh."
            self._terminate(group, present[identity], cause, now)

    def _scale(self, group: Any, now: datetime) -> None:
        """Launch what is missing, terminate what is too many."""
        course = course_of(group)
        present = [s for s in group.instance_states if s.lifecycle_state in ("Pending", "InService")]
        missing = (group.desired_capacity or 0) - len(present)
        if missing > 0 and not suspended(group, "Launch") and (course.retry is None or course.retry <= now):
            for number in range(missing):
                self._launch(group, len(present) + number, now)
            course.because = ""
        elif missing < 0 and not suspended(group, "Terminate"):
            free = [s for s in present if not s.protected_from_scale_in]
            for number, state in enumerate(sorted(free, key=_first_to_go)[:-missing]):
                size = len(present) - number
                cause = f"{course.because} " if course.because else ""
                cause += (
                    f"At {_stamp(now)} an instance was taken out of service in response to a difference between "
                    f"desired and actual capacity, shrinking the capacity from {size} to {size - 1}."
                )
                self._terminate(group, state, cause, now)
            course.because = ""

    def _launch(self, group: Any, size: int, now: datetime) -> None:
        course = course_of(group)
        cause = f"{course.because} " if course.because else ""
        cause += (
            f"At {_stamp(now)} an instance was started in response to a difference between desired and actual "
            f"capacity, increasing the capacity from {size} to {size + 1}."
        )
        try:
            instance = _run(group, size)
        except ServiceException as error:
            activity = course.begin("Launching a new EC2 instance", cause, now)
            activity.status, activity.message, activity.ended = "Failed", str(error.message), now
            course.retry = now + self.parts.clock.scaled(_RETRY)
            return
        instance.autoscaling_group = group
        state = InstanceState(instance, "Pending", protected_from_scale_in=group.new_instances_protected_from_scale_in)
        group.instance_states.append(state)
        course.launching[instance.id] = course.begin(f"Launching a new EC2 instance: {instance.id}", cause, now)

    def _terminate(self, group: Any, state: Any, cause: str, now: datetime) -> None:
        """Take an instance out of its target groups, and terminate it once it has drained."""
        course, identity = course_of(group), state.instance.id
        gone = state.instance.state == "terminated"
        until = _leave_target_groups(group, state, now, self.parts.clock.scaled)
        activity = course.begin(f"Terminating EC2 instance: {identity}", cause, now)
        launching = course.launching.pop(identity, None)
        if launching is not None:
            launching.status, launching.message = "Cancelled", "The instance was terminated"
            launching.ended = now
        state.lifecycle_state = "Terminating"
        course.in_service.pop(identity, None)
        course.terminating[identity] = activity, now if gone else until


# --- what a group is made of ------------------------------------------------------------------------------------------


def _note_capacity(group: Any, capacity: int | None) -> None:
    group.desired_capacity = group.min_size if capacity is None else capacity


def _run(group: Any, number: int) -> Any:
    """Launch an instance as the group's template says, in its zones one after another."""
    tags = {**group.get_propagated_tags(), GROUP_TAG: group.name, **group.instance_tags}
    template = None
    if group.ec2_launch_template is not None:
        version = group.ec2_launch_template.get_version(group.launch_template_version).number
        template = {"LaunchTemplateId": group.ec2_launch_template.id, "Version": str(version)}
    subnets = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else (None,)
    zones = sorted(group.availability_zones)
    reservation = group.ec2_backend.run_instances(
        group.image_id,
        1,
        group.user_data,
        list(group.security_groups),
        instance_type=group.instance_type,
        tags={"instance": tags},
        placement=zones[number % len(zones)],
        launch_config=group.launch_config,
        launch_template=template,
        is_instance_type_default=False,
        associate_public_ip=None,
        subnet_id=subnets[number % len(subnets)],
    )
    return reservation.instances[0]


def _template_of(state: Any) -> dict[str, Any] | None:
    """Return the launch template and the version that an instance was launched with."""
    template = getattr(state.auto_scaling_group, "ec2_launch_template", None)
    if template is None:
        return None
    tags = {tag["key"]: tag["value"] for tag in state.instance.get_tags()}
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "Version": str(tags.get("aws:ec2launchtemplate:version", template.default_version_number)),
    }


def _first_to_go(state: Any) -> tuple[bool, int, Any]:
    """Order for scaling in: not yet in service, then the oldest template version, then the oldest instance."""
    template = _template_of(state) or {"Version": "0"}
    return state.lifecycle_state == "InService", int(template["Version"]), state.instance.launch_time


def _target_groups(group: Any) -> list[Any]:
    known = group.autoscaling_backend.elbv2_backend.target_groups
    return [known[arn] for arn in group.target_group_arns if arn in known]


def _serves(group: Any, identity: str) -> bool:
    return all(health_of(g, identity).state == "healthy" for g in _target_groups(group))


def _leave_target_groups(group: Any, state: Any, now: datetime, scaled: Any = lambda delay: delay) -> datetime:
    """Take an instance out of its group's target groups; return when it has drained."""
    until = now
    for target_group in _target_groups(group):
        if state.instance.id in target_group.targets:
            drained = now + scaled(drain_delay(target_group))
            deregister(target_group, state.instance.id, drained)
            until = max(until, drained)
    return until


def _finish(activity: Activity | None, now: datetime) -> None:
    if activity is not None:
        activity.status, activity.ended = "Successful", now


def _activity(activity: Activity, group: Any) -> dict[str, Any]:
    done = activity.status in ("Successful", "Failed", "Cancelled")
    return {
        "ActivityId": activity.id,
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": group.arn,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": activity.started,
        **({"EndTime": activity.ended} if activity.ended else {}),
        "StatusCode": activity.status,
        **({"StatusMessage": activity.message} if activity.message else {}),
        "Progress": 100 if done else 50,
    }


def _configuration(group: Any) -> dict[str, Any]:
    template = group.ec2_launch_template
    return {
        "min": group.min_size,
        "max": group.max_size,
        "desired": group.desired_capacity,
        "suspended": sorted(p["ProcessName"] for p in group.suspended_processes),
        "healthCheck": [group.health_check_type, group.health_check_grace_period],
        "cooldown": group.default_cooldown,
        "targetGroups": sorted(group.target_group_arns),
        "template": [template.name, str(group.launch_template_version)] if template is not None else None,
    }


# --- what calls say ---------------------------------------------------------------------------------------------------


def _named(call: Call, principal: Principal) -> Any:
    """Return the group that a call names. Errors: Refused when there is none."""
    name = call.arguments.get("AutoScalingGroupName", "")
    group = autoscaling_backends[principal.account][call.region].autoscaling_groups.get(name)
    if group is None:
        message = f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found"
        raise Refused("ValidationError", message)
    return group


def _member(call: Call, principal: Principal) -> tuple[Any, Any]:
    """Return group and state of the instance that a call names. Errors: Refused when no group has it."""
    identity = call.arguments["InstanceId"]
    found = autoscaling_backends[principal.account][call.region].describe_auto_scaling_instances([identity])
    if not found:
        message = f"Instance Id not found - No managed instance found for instance ID: {identity}"
        raise Refused("ValidationError", message)
    return found[0].auto_scaling_group, found[0]


def _check_bounds(low: int, high: int, desired: Any) -> None:
    if low > high:
        raise Refused("ValidationError", f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if desired is not None and not low <= int(desired) <= high:
        message = f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}"
        raise Refused("ValidationError", message)


def _check_desired(group: Any, wanted: int) -> None:
    words = "for the AutoScalingGroup."
    if wanted > group.max_size:
        message = f"New SetDesiredCapacity value {wanted} is above max value {group.max_size} {words}"
        raise Refused("ValidationError", message)
    if wanted < group.min_size:
        message = f"New SetDesiredCapacity value {wanted} is below min value {group.min_size} {words}"
        raise Refused("ValidationError", message)


def _true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _instant(value: Any) -> datetime:
    at = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _needs(call: Call, account: str) -> Iterator[Need]:
    action = f"autoscaling:{call.operation}"
    if call.operation.startswith("Describe"):
        yield Need(action=action, resource="*")
        return
    backend = autoscaling_backends[account][call.region]
    name = call.arguments.get("AutoScalingGroupName", "")
    group = backend.autoscaling_groups.get(name)
    if group is None and call.arguments.get("InstanceId"):
        found = backend.describe_auto_scaling_instances([call.arguments["InstanceId"]])
        group = found[0].auto_scaling_group if found else None
    anywhere = f"arn:aws:autoscaling:{call.region}:{account}:autoScalingGroup:*:autoScalingGroupName/{name or '*'}"
    yield Need(action=action, resource=group.arn if group is not None else anywhere)
