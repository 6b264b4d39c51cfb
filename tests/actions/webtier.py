"""A web tier for pure tests: a target group, its instances, their group, and what each answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from incident_operator.actions.ports import HttpAnswer, ReadError, Rows, Scalar
from tests.actions.reader import DictReader
from tests.builders import NOW

ACCOUNT = "123456789012"
ARN = f"arn:aws:elasticloadbalancing:us-east-1:{ACCOUNT}:targetgroup/web/0123456789abcdef"
BALANCER = f"arn:aws:elasticloadbalancing:us-east-1:{ACCOUNT}:loadbalancer/app/web/0123456789abcdef"
GROUP_ARN = f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName/web-asg"

#: What a target answers on a path: a status, or the reason why there is no answer.
Answers = Callable[[str, str], int | str]


@dataclass
class WebReader(DictReader):
    """A reader that probes as well, and asks a database. Shape: `answer` gets the address and the path.

    `sessions`: what differs from a quiet database's, or why it does not answer; None: it is not to be asked.
    """

    answer: Answers | None = None
    probed: list[str] = field(default_factory=list)
    sessions: Mapping[str, Any] | Exception | None = None

    def postgres(
        self,
        connection: str,
        statement: str,
        arguments: Sequence[Scalar] = (),
        *,
        max_rows: int = 20,
        timeout: timedelta = timedelta(seconds=5),
    ) -> Rows:
        """Return the one row of `actions.migrations`. Errors: ReadError."""
        if self.sessions is None:
            raise AssertionError(f"{connection} was asked")
        if isinstance(self.sessions, Exception):
            raise self.sessions
        row = {"used": 12, "maximum": 97, "migrations": 0, **self.sessions}
        sees_all = bool(row.pop("sees_all", True))
        return Rows(rows=(row,), truncated=False, withheld=0, sees_all=sees_all, elapsed=timedelta(milliseconds=5))

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """Return what the target answers. Errors: ReadError."""
        if self.answer is None:
            raise AssertionError(f"{url} was probed")
        self.probed.append(url)
        host, _, path = url.removeprefix("http://").partition("/")
        said = self.answer(host, f"/{path}")
        if isinstance(said, str):
            raise ReadError(said, f"{host}: {said}")
        return HttpAnswer(status=said, elapsed=timedelta(milliseconds=5), size=2, content_type="text/plain")


def instance_id(number: int) -> str:
    """Return the id of an instance."""
    return f"i-{number:017x}"


def address(number: int) -> str:
    """Return the private address of an instance."""
    return f"10.0.0.{number}"


def target(number: int, state: str = "healthy", codes: str | None = None) -> dict[str, Any]:
    """Return a target as its listed read gives it."""
    reason = {"unhealthy": "Target.ResponseCodeMismatch", "initial": "Elb.RegistrationInProgress"}.get(state)
    return {"Id": instance_id(number), "Port": 8080, "State": state, "Reason": reason, "Codes": codes}


def target_group(**changes: Any) -> dict[str, Any]:
    """Return the target group as its listed read gives it."""
    return {
        "TargetGroupArn": ARN,
        "TargetGroupName": "web",
        "Protocol": "HTTP",
        "Port": 8080,
        "TargetType": "instance",
        "LoadBalancerArns": [BALANCER],
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckPath": "/health",
        "HealthCheckEnabled": True,
        "HealthCheckIntervalSeconds": 15,
        "HealthyThresholdCount": 2,
        "Matcher": "200-299",
        **changes,
    }


def member(number: int, lifecycle: str = "InService", health: str = "Healthy") -> dict[str, Any]:
    """Return an instance of the group."""
    return {"InstanceId": instance_id(number), "LifecycleState": lifecycle, "HealthStatus": health}


def scaling_group(*members: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the Auto Scaling group as its listed read gives it."""
    return {
        "AutoScalingGroupName": "web-asg",
        "AutoScalingGroupARN": GROUP_ARN,
        "MinSize": 2,
        "MaxSize": 6,
        "DesiredCapacity": len(members),
        "HealthCheckType": "ELB",
        "HealthCheckGracePeriod": 120,
        "TargetGroupARNs": [ARN],
        "Instances": list(members),
        "SuspendedProcesses": [],
        **changes,
    }


def suspended(*processes: str, at: str | None = None) -> list[dict[str, Any]]:
    """Return suspended processes."""
    return [{"ProcessName": process, "SuspendedAt": at} for process in processes]


def metrics(requests: float | None, failed: float = 0, latency: float | None = 0.1) -> Callable[[Any], Any]:
    """Return what CloudWatch has of the load balancer; no sample of what did not happen."""
    values = {
        "requestcount": requests,
        "httpcode_elb_5xx_count": None,
        "httpcode_target_5xx_count": failed or None,
        "targetresponsetime": latency,
    }

    def answer(arguments: Mapping[str, Any]) -> Any:
        series = []
        for query in arguments["MetricDataQueries"]:
            value = values[query["Id"].split("_", 1)[1]]
            samples = [] if value is None else [value]
            series.append({"id": query["Id"], "at": [NOW.isoformat()] * len(samples), "values": samples})
        return series

    return answer


def reader(
    targets: list[dict[str, Any]] | None = None,
    group: Mapping[str, Any] | None = None,
    answer: Answers | None = None,
    sessions: Mapping[str, Any] | Exception | None = None,
    **answers: Any,
) -> WebReader:
    """Return a reader of this web tier."""
    shown = [target(1), target(2), target(3)] if targets is None else targets
    scaling = scaling_group(member(1), member(2), member(3)) if group is None else group
    known: dict[str, Any] = {
        "elbv2.describe_target_groups": [target_group()],
        "elbv2.describe_target_health": shown,
        "autoscaling.describe_auto_scaling_groups": [scaling],
        "autoscaling.describe_scaling_activities": [],
        "ec2.describe_instances": lambda given: [
            {"InstanceId": instance_id(n), "PrivateIpAddress": address(n), "State": "running"}
            for n in range(1, 9)
            if instance_id(n) in given["InstanceIds"]
        ],
        "cloudwatch.get_metric_data": metrics(100),
    }
    known.update({key.replace("__", "."): value for key, value in answers.items()})
    return WebReader(known, answer=answer, sessions=sessions)
