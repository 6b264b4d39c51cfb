"""Load balancers: who is unhealthy and why, a wrong path told from a broken application, none taken wrongly."""

from typing import Any

import pytest

from incident_operator.actions.base import Unclear
from incident_operator.actions.elbv2 import (
    BalancedRequests,
    EndpointInputs,
    RequestInputs,
    TargetEndpoints,
    TargetGroupInputs,
    TargetHealth,
)
from incident_operator.actions.elbv2_fixes import DeregisterInputs, DeregisterTargets, SetHealthCheckPath, SetPathInputs
from incident_operator.actions.ports import NotFound, ReadError
from incident_operator.actions.reads import READS
from incident_operator.api.meta import Risk
from incident_operator.core.draft import NotApplicable, PlanDraft
from tests.actions.webtier import (
    ARN,
    Answers,
    WebReader,
    address,
    instance_id,
    metrics,
    reader,
    target,
    target_group,
)

ALIKE = [target(n, "unhealthy", "404") for n in (1, 2, 3)]


def moved(_: str, path: str) -> int:
    """Answer as every target does after a release that moved the health endpoint."""
    return 200 if path == "/healthz" else 404


def reasons_of(found: Any) -> list[str]:
    """Return the reasons of findings; of what is unclear, what was found nevertheless."""
    return [f.reason for f in (found.found if isinstance(found, Unclear) else found)]


def health(world: WebReader) -> Any:
    """Return the findings of target health."""
    inputs = TargetGroupInputs(target_group="web")
    return TargetHealth().findings(inputs, TargetHealth().observe(inputs, world))


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([target(1), target(2)], []),
        (ALIKE, ["AllTargetsFailAlike"]),
        ([target(1, "unhealthy", "404"), target(2, "unhealthy", "500")], ["TargetsUnhealthy"]),
        ([target(1), target(2, "unhealthy", "500")], ["TargetsUnhealthy"]),
        ([target(1, "unhealthy", "500")], ["TargetsUnhealthy"]),
        ([], ["NoTargets"]),
        ([target(1), target(2, "unused")], ["TargetsUnused"]),
        ([target(1), target(2, "initial")], []),
        ([target(1), target(2, "draining")], []),
        ([target(1, "draining")], ["NoTargets"]),
    ],
)
def test_target_health_tells_all_alike_from_some_and_from_none(targets: list[Any], expected: list[str]) -> None:
    """An empty group is not "all unhealthy", and one target alone can't fail "alike"."""
    assert reasons_of(health(reader(targets))) == expected


@pytest.mark.parametrize("state", ["initial", "unavailable"])
def test_targets_without_a_verdict_are_neither_healthy_nor_unhealthy(state: str) -> None:
    """Unknown is never reported as healthy."""
    assert isinstance(health(reader([target(1, state), target(2, state)])), Unclear)


def test_a_target_group_that_does_not_exist_is_an_error() -> None:
    """By name AWS answers NotFound; an empty list means the same."""
    with pytest.raises(NotFound):
        health(reader(elbv2__describe_target_groups=[]))


def test_a_target_group_of_another_account_is_not_read() -> None:
    """Its namesake here would be another one."""
    inputs = TargetGroupInputs(target_group=ARN.replace("123456789012", "210987654321"))
    with pytest.raises(ReadError, match="is for account"):
        TargetHealth().observe(inputs, reader())


def endpoints(answer: Answers, declared: str | None = "/healthz", **world: Any) -> Any:
    """Return the findings of the targets' own endpoints."""
    inputs = EndpointInputs(target_group="web", declared_path=declared)
    return TargetEndpoints().findings(inputs, TargetEndpoints().observe(inputs, reader(answer=answer, **world)))


@pytest.mark.parametrize(
    ("answer", "declared", "expected"),
    [
        (lambda host, path: 204, "/healthz", []),
        (moved, "/healthz", ["HealthCheckPathStale"]),
        (moved, None, ["HealthPathUnanswered"]),
        (moved, "/health", ["ApplicationUnhealthy"]),
        (lambda host, path: 503, "/healthz", ["ApplicationUnhealthy"]),
        (lambda host, path: "Refused", "/healthz", ["ApplicationUnhealthy"]),
        (lambda host, path: 500 if host.startswith(address(2)) else 200, "/healthz", ["TargetEndpointFailing"]),
        (lambda host, path: 302, "/healthz", ["ApplicationUnhealthy"]),
    ],
)
def test_a_moved_path_is_told_from_a_broken_application(
    answer: Answers, declared: str | None, expected: list[str]
) -> None:
    """By the group's own matcher; a path that is stale needs every target to answer the declared one."""
    assert reasons_of(endpoints(answer, declared)) == expected


@pytest.mark.parametrize("reason", ["Timeout", "Unreachable"])
def test_targets_that_do_not_answer_us_prove_nothing(reason: str) -> None:
    """It may be our own network."""
    found = endpoints(lambda host, path: reason)
    assert isinstance(found, Unclear)
    assert found.found == ()


def test_a_probe_that_the_grant_does_not_list_is_an_error() -> None:
    """It says so, instead of calling the targets broken."""
    with pytest.raises(ReadError, match="NotGranted"):
        endpoints(lambda host, path: "NotGranted")


def test_targets_are_asked_as_the_load_balancer_asks() -> None:
    """At the instance's private address, on the group's own port and path, not on 8080/health by habit."""
    world = reader(
        [target(1)],
        answer=lambda host, path: 200,
        elbv2__describe_target_groups=[target_group(HealthCheckPort="9001", HealthCheckPath="/live")],
    )
    TargetEndpoints().observe(EndpointInputs(target_group="web"), world)
    assert world.probed == [f"http://{address(1)}:9001/live"]


def requests(world: WebReader, **inputs: Any) -> Any:
    """Return the findings of what users feel."""
    given = RequestInputs(target_group="web", **inputs)
    return BalancedRequests().findings(given, BalancedRequests().observe(given, world))


def test_users_are_judged_by_rate_and_latency() -> None:
    """Errors that CloudWatch has no sample of did not happen, where it has requests."""
    assert requests(reader(cloudwatch__get_metric_data=metrics(100))) == []
    assert reasons_of(requests(reader(cloudwatch__get_metric_data=metrics(100, 20)))) == ["UsersFailing"]
    slow = reader(cloudwatch__get_metric_data=metrics(100, latency=3))
    assert reasons_of(requests(slow, max_latency=1)) == ["UsersWaiting"]


def test_metrics_that_are_missing_prove_no_health() -> None:
    """No request count, or no latency where it is judged: Inconclusive."""
    assert isinstance(requests(reader(cloudwatch__get_metric_data=metrics(None))), Unclear)
    blind = reader(cloudwatch__get_metric_data=metrics(100, latency=None))
    assert isinstance(requests(blind, max_latency=1), Unclear)


def path_plan(answer: Answers, declared: str | None = "/healthz", **world: Any) -> PlanDraft | NotApplicable:
    """Return what setting the path plans."""
    inputs = SetPathInputs(target_group="web", declared_path=declared)
    return SetHealthCheckPath().plan(inputs, SetHealthCheckPath().observe(inputs, reader(answer=answer, **world)))


def test_the_path_is_set_and_can_be_set_back_exactly() -> None:
    """One Low call on the group alone, guarded by the path that is there."""
    plan = path_plan(moved)
    assert isinstance(plan, PlanDraft)
    (call,) = plan.calls
    assert call.arguments == {"TargetGroupArn": ARN, "HealthCheckPath": "/healthz"}
    assert (plan.risk, plan.touches, plan.hazards) == (Risk.LOW, (ARN,), ())
    assert [p.equals for p in plan.preconditions] == ["/health"]
    assert plan.undo is not None
    assert [c.arguments["HealthCheckPath"] for c in plan.undo.calls] == ["/health"]


@pytest.mark.parametrize(
    ("answer", "declared", "world", "reason"),
    [
        (moved, None, {}, "NoDeclaredPath"),
        (moved, "/health", {}, "PathIsSet"),
        (lambda host, path: 200, "/healthz", {}, "PathStillAnswered"),
        (lambda host, path: 503, "/healthz", {}, "PathNotAnswered"),
        (lambda host, path: 404 if host.startswith(address(3)) else moved(host, path), "/healthz", {},
         "PathNotAnswered"),
        (lambda host, path: "Timeout", "/healthz", {}, "PathNotAnswered"),
        (moved, "/healthz", {"targets": []}, "NoTargets"),
    ],
)  # fmt: skip
def test_the_path_is_not_set_where_it_could_hide_a_broken_application(
    answer: Answers, declared: str | None, world: dict[str, Any], reason: str
) -> None:
    """Every target has to answer the declared path; one that does not, or says nothing, is enough to leave it."""
    plan = path_plan(answer, declared, **world)
    assert isinstance(plan, NotApplicable)
    assert plan.reason == reason


@pytest.mark.parametrize(
    ("targets", "metric", "outcome", "measured"),
    [
        ([target(1), target(2)], metrics(50), "Helped", True),
        ([target(1), target(2)], metrics(50, 25), None, True),
        ([target(1), target(2, "unhealthy")], metrics(50), None, True),
        ([target(1), target(2)], metrics(None), None, False),
        ([], metrics(50), None, True),
    ],
)
def test_a_new_path_helped_when_targets_and_users_are_well(
    targets: list[Any], metric: Any, outcome: str | None, measured: bool
) -> None:
    """Healthy targets alone could hide that users get errors; no traffic proves nothing."""
    inputs, fix = SetPathInputs(target_group="web", declared_path="/healthz"), SetHealthCheckPath()
    before = fix.observe(inputs, reader(answer=moved))
    judged = fix.judge(inputs, before, fix.measure(inputs, reader(targets, cloudwatch__get_metric_data=metric)))
    assert (judged.outcome, judged.measured) == (outcome, measured)


def deregister(targets: list[Any], minimum: int = 1) -> PlanDraft | NotApplicable:
    """Return what deregistering plans."""
    inputs = DeregisterInputs(target_group="web", min_healthy=minimum)
    return DeregisterTargets().plan(inputs, DeregisterTargets().observe(inputs, reader(targets)))


@pytest.mark.parametrize(
    ("targets", "minimum", "reason"),
    [
        (ALIKE, 1, "AllFailAlike"),
        ([target(1, "unhealthy", "404"), target(2, "unhealthy", "500")], 1, "NoneHealthy"),
        ([target(1, "unhealthy", "500")], 1, "NoneHealthy"),
        ([target(1), target(2, "unhealthy", "500")], 2, "TooFewHealthy"),
        ([target(1), target(2)], 1, "NoneUnhealthy"),
        ([], 1, "NoneUnhealthy"),
        ([target(1), {**target(2, "unhealthy", "500"), "Id": "10.0.0.2"}], 1, "NotInstances"),
    ],
)
def test_targets_are_not_taken_where_that_ends_the_service(targets: list[Any], minimum: int, reason: str) -> None:
    """All failing alike, none healthy, fewer healthy than there must be: the document's command would do harm."""
    plan = deregister(targets, minimum)
    assert isinstance(plan, NotApplicable)
    assert plan.reason == reason


def test_only_the_unhealthy_are_taken_and_can_be_put_back() -> None:
    """They are candidates: at the call only those still unhealthy are taken, never another one."""
    plan = deregister([target(1), target(2), target(3, "unhealthy", "500")])
    assert isinstance(plan, PlanDraft)
    assert [arn.rpartition("/")[2] for arn in plan.candidates] == [instance_id(3)]
    assert plan.calls[0].arguments["Targets"] == {"fromTargets": {"after": "/", "as": "Id"}}
    assert plan.risk == Risk.DISRUPTIVE
    assert plan.capacity is not None
    assert (plan.capacity.healthy_before, plan.capacity.healthy_after) == (2, 2)
    assert plan.undo is not None
    assert [c.operation for c in plan.undo.calls] == ["register_targets"]


def test_of_a_description_the_status_codes_alone_are_kept() -> None:
    """It is text that a target may have a part in."""
    described = {
        "TargetHealthDescriptions": [
            {
                "Target": {"Id": instance_id(1), "Port": 80},
                "TargetHealth": {
                    "State": "unhealthy",
                    "Reason": "Target.ResponseCodeMismatch",
                    "Description": "Health checks failed with these codes: [404] password=hunter2",
                },
            }
        ]
    }
    (kept,) = READS["elbv2", "describe_target_health"].project(described)
    assert kept["Codes"] == "404"
    assert "hunter2" not in str(kept)
