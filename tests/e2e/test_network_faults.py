"""Refused, lost, late and cut off, at every kind of write: the run ends as it would have, and nothing is done twice."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dev.faultproxy import Fault, FaultProxy, Harm, Seen, Side
from dev.shop.faults import FAULTS
from dev.shop.grant import grant
from incident_operator.adapters.aws import CallFailed, Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.kube import Conflict, Kube, KubeError, NotLeading, Unreachable
from incident_operator.api.grant import ActionGrant
from tests.builders import a_call

from .cures import CALL_SECONDS, LEASE_SECONDS, Playbook, cure, cure_all, problems
from .world import World

PLAYBOOK = Playbook(fault="inc-2023-1247", ends="Resolved/Runbook")
REFUSALS = (Harm.CONFLICT, Harm.THROTTLED, Harm.FAILED, Harm.TIMED_OUT)
HARMS = (*REFUSALS, Harm.LOST, Harm.LATE, Harm.CUT_OFF)
#: Longer than the client waits for an answer, and longer than the Lease lasts.
SECONDS = {
    (Side.API, Harm.LATE): 11.0,
    (Side.AWS, Harm.LATE): CALL_SECONDS + 1.0,
    (Side.API, Harm.CUT_OFF): LEASE_SECONDS + 1.0,
    (Side.AWS, Harm.CUT_OFF): CALL_SECONDS + 2.0,
}


def test_a_fault_anywhere_changes_nothing_about_the_end(make_world: Callable[..., World]) -> None:
    """Each harm at each kind of write, and at turns all along the story."""
    whole = cure(make_world(through_proxy=True), PLAYBOOK)
    assert whole.ends == PLAYBOOK.ends, whole.told
    points = _points(whole.seen)
    cases = [lambda _, at=point: [_fault(*at)] for point in points]
    wrong = [
        f"{harm} at {what} ({nth}): {problem}"
        for (_, what, nth, harm), found in zip(points, cure_all(make_world, PLAYBOOK, whole, cases), strict=True)
        for problem in found
    ]
    assert not wrong, "\n".join(wrong)


def test_a_bad_network_all_along_changes_nothing_either(make_world: Callable[..., World]) -> None:
    """Every third write is refused, every fourth loses its answer, every fifth meets a newer object."""
    whole = cure(make_world(through_proxy=True), PLAYBOOK)
    faults = [
        Fault(what=Side.API, harm=Harm.FAILED, nth=3, every=True),
        Fault(what=Side.API, harm=Harm.LOST, nth=4, every=True),
        Fault(what=Side.API, harm=Harm.CONFLICT, nth=5, every=True),
        Fault(what=Side.AWS, harm=Harm.UNSENT, nth=1),
        Fault(what=Side.AWS, harm=Harm.THROTTLED, nth=2),
    ]
    met = cure(make_world(through_proxy=True), PLAYBOOK, lambda _: faults)
    assert problems(whole, met) == []


def test_a_lost_answer_to_the_write_that_settles_a_plan_hides_no_outcome(make_world: Callable[..., World]) -> None:
    """The watch then shows the plan as it was before: what the fix did for users must still be known at the end."""
    lost = Fault(what="remediationplans/status settled", harm=Harm.LOST)
    met = cure(make_world(through_proxy=True), PLAYBOOK, lambda _: [lost])
    assert lost.struck.is_set(), met.told
    assert met.ends == PLAYBOOK.ends, met.told


def _points(seen: list[Seen]) -> list[tuple[Side, str, int, Harm]]:
    """Return side, request, number and harm: each harm at each kind of write, spread over those that always come.

    A phase or a state is written once in every world; how often messages are brought up to date, nobody can say.
    """
    numbers = {
        (Side.API, kind): len({s.what for s in seen if re.fullmatch(rf"{kind} [A-Z][A-Za-z]+", s.what)})
        for kind in ("incidentruns/status", "remediationplans/status")
    }
    numbers |= {(Side.API, "POST remediationplans"): 1}
    numbers |= {(Side.AWS, s.what): 1 for s in seen if s.side == Side.AWS}
    assert len(numbers) == 4
    assert all(number >= 3 for (_, what), number in numbers.items() if what.endswith("/status")), numbers
    return [(side, what, 1 + i % n, harm) for (side, what), n in numbers.items() for i, harm in enumerate(HARMS)]


def _fault(side: Side, what: str, nth: int, harm: Harm) -> Fault:
    return Fault(what=what, nth=nth, harm=harm, seconds=SECONDS.get((side, harm), 0.0))


@pytest.fixture
def proxied(make_world: Callable[..., World]) -> tuple[World, FaultProxy]:
    """Return a world without an operator, and its proxy."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    return world, world.proxy


@pytest.mark.parametrize(
    ("harm", "kind", "retry_after"),
    [
        (Harm.CONFLICT, Conflict, 0.0),
        (Harm.THROTTLED, Unreachable, 1.0),
        (Harm.FAILED, Unreachable, 0.0),
        (Harm.TIMED_OUT, Unreachable, 0.0),
        (Harm.LOST, Unreachable, 0.0),
        (Harm.UNSENT, Unreachable, 0.0),
    ],
)
async def test_our_client_tells_the_api_servers_refusals_apart(
    proxied: tuple[World, FaultProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Harm,
    kind: type[KubeError],
    retry_after: float,
) -> None:
    """By the Status that an API server sends; also how long it asks to be left alone."""
    world, proxy = proxied
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(world.stack.kubeconfig("alice"), tmp_path / "alice")))
    kube = await Kube.connect(Clock())
    proxy.arm(Fault(what="POST incidentruns", harm=harm))
    try:
        with pytest.raises(KubeError) as raised:
            await kube.create(world.manifest(FAULTS[PLAYBOOK.fault].example))
    finally:
        await kube.close()
    assert type(raised.value) is kind
    assert raised.value.retry_after == retry_after


async def test_who_does_not_surely_lead_sends_no_write(
    proxied: tuple[World, FaultProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads go on; a write does not even leave the process."""
    world, proxy = proxied
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(world.stack.kubeconfig("alice"), tmp_path / "alice")))
    kube = await Kube.connect(Clock())
    kube.may_write = lambda: False
    try:
        with pytest.raises(NotLeading):
            await kube.create(world.manifest(FAULTS[PLAYBOOK.fault].example))
        assert [raw async for raw in kube.stored("IncidentRun", world.name)] == []
    finally:
        await kube.close()
    assert proxy.changes == []


@pytest.mark.parametrize(
    ("harm", "iam", "functions"),
    [
        (Harm.CONFLICT, "ConcurrentModification", "ResourceConflictException"),
        (Harm.THROTTLED, "Throttling", "TooManyRequestsException"),
        (Harm.FAILED, "InternalFailure", "InternalFailure"),
        (Harm.TIMED_OUT, "504", "504"),
        (Harm.LOST, "ConnectionClosedError", "ConnectionClosedError"),
        (Harm.UNSENT, "ConnectionClosedError", "ConnectionClosedError"),
    ],
)
def test_the_aws_client_reads_refusals_in_each_protocol(
    proxied: tuple[World, FaultProxy], harm: Harm, iam: str, functions: str
) -> None:
    """Query in XML, and REST in JSON: the codes that AWS itself has for them."""
    world, proxy = proxied
    key = world.shop.keys["operator"]
    session = boto3.session.Session(
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name="us-east-1"
    )
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})

    def code(service: str, operation: str, **arguments: str) -> str:
        client = session.client(service, endpoint_url=proxy.url(Side.AWS), config=config)  # type: ignore[call-overload]
        proxy.arm(Fault(what=Side.AWS, harm=harm))
        with pytest.raises((ClientError, BotoCoreError)) as raised:
            getattr(client, operation)(**arguments)
        error = raised.value
        return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__

    assert code("iam", "delete_role", RoleName="nobody") == iam
    assert code("lambda", "delete_function", FunctionName="nothing") == functions


@pytest.mark.parametrize("harm", [Harm.THROTTLED, Harm.UNSENT])
def test_a_call_whose_role_cannot_be_assumed_for_now_is_surely_not_sent(
    proxied: tuple[World, FaultProxy], monkeypatch: pytest.MonkeyPatch, harm: Harm
) -> None:
    """So it may be made again; one that is denied its role is over."""
    world, proxy = proxied
    key = world.shop.keys["operator"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url(Side.AWS))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
    given = ActionGrant.model_validate(grant(world.shop.account)).spec.aws
    assert given is not None
    gateway = Gateway(now=Clock().now, scaled=lambda wait: wait, boto_session=boto3.session.Session())

    def code(role: str) -> tuple[str, bool]:
        soon = Clock().now() + timedelta(minutes=1)
        denied = given.model_copy(update={"role_arn": role})
        with pytest.raises(CallFailed) as raised:
            gateway.execute(a_call(), denied, "us-east-1", "run", {}, timedelta(seconds=2), soon)
        return raised.value.code, raised.value.definite

    assert code(f"arn:aws:iam::{world.shop.account}:role/Nobody") == ("AssumeRole.AccessDenied", True)
    proxy.arm(Fault(what="AssumeRole", harm=harm, every=True))
    assert code(given.role_arn) == ("NotSentInTime", True)
    assert proxy.changes == []
