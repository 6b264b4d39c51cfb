"""The close-out of an incident on a real API server, asked of the simulator: closed by proof alone, or by people.

The clock is the test's: an hour passes from one wake-up to the next, and ends now, where the alarm is.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from dev.processes import wait_until
from dev.receivers import Receivers
from incident_operator.actions.catalogue import infos
from incident_operator.adapters.aws import Gateway
from incident_operator.adapters.clock import Clock
from incident_operator.adapters.connections import Slots
from incident_operator.adapters.evaluator import Evaluator
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.notify import Messenger
from incident_operator.adapters.pool import Pool
from incident_operator.adapters.store import Store
from incident_operator.api.incident import Incident, IncidentSpec
from incident_operator.api.meta import Metadata, Severity, format_instant
from incident_operator.controllers.context import Context
from incident_operator.controllers.incident import IncidentController
from incident_operator.controllers.runbooks import Revisions, Runbooks, revision_name
from incident_operator.runtime.watch import Watch
from incident_operator.settings import Settings

from .incidents import an_escalation_policy, condition_of
from .test_incident_calendar import StandingClock
from .world import World

NAME, ALARM = "checkout-fails", "checkout-failed"
NAMESPACE = "Shop"
#: What the alarm watches, and what users feel: two, since the alarm is made to ring now, an hour after the end.
WATCHED, FELT = "Failed", "Unserved"
#: Seconds. The alarm looks at so long a time.
PERIOD = 1


def samples(world: World, metric: str, value: float, *at: datetime) -> None:
    """Report a value of a metric at these instants."""
    data = [{"MetricName": metric, "Value": value, "Timestamp": one} for one in at]
    world.shop.client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=data)


def alarm_that_rang(world: World) -> None:
    """Make an alarm, let requests fail until it rings, and wait until it is quiet again."""
    client = world.shop.client("cloudwatch")
    client.put_metric_alarm(
        AlarmName=ALARM,
        Namespace=NAMESPACE,
        MetricName=WATCHED,
        Statistic="Sum",
        Period=PERIOD,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
        TreatMissingData="notBreaching",
    )

    def is_in(state: str, value: float) -> bool:
        samples(world, WATCHED, value, Clock().now())
        (found,) = client.describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]
        return bool(found["StateValue"] == state)

    assert wait_until(lambda: is_in("ALARM", 1), seconds=20)
    assert wait_until(lambda: is_in("OK", 0), seconds=20)


def runbook(namespace: str, **closeout: Any) -> dict[str, Any]:
    """Return a runbook that looks at the metric, and at the alarm on it once all is over."""
    metric = {
        "namespace": NAMESPACE,
        "metricName": FELT,
        "statistic": "Sum",
        "threshold": 0,
        "minSamples": 1,
    }
    alarm = {"alarmNames": [ALARM], "expectReaction": True}
    return {
        "apiVersion": "ops.shopsmart.com/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": "checkout", "namespace": namespace},
        "spec": {
            "title": "Checkout fails",
            "incidentType": "CheckoutFailure",
            "steps": [
                {
                    "name": "look",
                    "title": "Look",
                    "expectedBy": "5m",
                    "checks": [{"name": "failed", "action": "cloudwatch.metric", "inputs": metric}],
                }
            ],
            "recovery": {"checks": ["failed"]},
            "closeout": {
                "checks": [{"name": "alarm", "action": "cloudwatch.alarm", "inputs": alarm}],
                "alarms": ["alarm"],
                "watchAlso": ["failed"],
                **closeout,
            },
        },
    }


def ran(world: World, began: datetime, ended: datetime | None = None) -> dict[str, Any]:
    """Return the status of a run of the runbook: at work, or ended with what it could do."""
    stored = world.admin.json("get", "runbook", "checkout", "-n", world.name)
    pin = {
        "kind": "Runbook",
        "name": "checkout",
        "revision": revision_name("Runbook", "checkout", stored["spec"]),
    }
    status: dict[str, Any] = {"phase": "Diagnosing", "startedAt": format_instant(began), "runbook": pin}
    if ended is not None:
        status |= {"phase": "Resolved", "outcome": "Runbook", "finishedAt": format_instant(ended), "settled": True}
    return status


class Office:
    """The operator's incidents at a clock that stands, with all that it asks: evaluator, threads and AWS are real."""

    def __init__(self, world: World, kube: Kube, clock: StandingClock) -> None:
        self.world, self.kube, self.clock, self.key = world, kube, clock, (world.name, NAME)
        settings, self._store = Settings(identity="office", namespaces=(world.name,)), Store()
        self._evaluator, self._pool = Evaluator(), Pool(4)
        self._messenger = Messenger(clock, kube.endpoint, loopback=True)
        self.context = Context(
            settings=settings,
            clock=clock,
            store=self._store,
            kube=kube,
            evaluator=self._evaluator,
            aws=Gateway(now=clock.now, scaled=settings.scaled, boto_session=boto3.session.Session()),
            pool=self._pool,
            leader=SimpleNamespace(epoch=1, holder="office", held=lambda: True),
            admission=SimpleNamespace(),  # type: ignore[arg-type]
            locks=SimpleNamespace(),  # type: ignore[arg-type]
            messenger=self._messenger,
            runbooks=Runbooks(infos()),
            revisions=Revisions(kube),
            slots=Slots(),
            enqueue=lambda kind, key: None,
            go_on=lambda kind, key: None,
        )
        self._watch = Watch(self._store, kube, lambda kind, key: None, (world.name,))
        self._controller = IncidentController(self.context)

    async def look(self) -> datetime | None:
        """Reconcile the incident until it has nothing to do now; return when to look again."""
        await self._watch.list_all()
        for _ in range(20):
            wake_at = await self._controller.reconcile(self.key)
            if not (tasks := self._controller.under_way(self.key)):
                return wake_at
            await asyncio.wait(tasks)
        raise AssertionError("it never comes to rest")

    async def until(self, end: datetime) -> dict[str, Any]:
        """Let time pass, from one wake-up to the next; return the incident's status."""
        while (wake_at := await self.look()) is not None and wake_at <= end:
            self.clock.at = wake_at
        self.clock.at = end
        await self.look()
        return self.stored()["status"]  # type: ignore[no-any-return]

    def stored(self) -> dict[str, Any]:
        """Return the incident as stored."""
        return dict(self.world.admin.json("get", "incident", NAME, "-n", self.world.name))

    async def run(self, began: datetime, ended: datetime) -> None:
        """Let a run join the incident, and end."""
        manifest = {
            "apiVersion": "ops.shopsmart.com/v1alpha1",
            "kind": "IncidentRun",
            "metadata": {"name": "run", "namespace": self.world.name},
            "spec": {"incident": {"name": NAME}, "runbookRef": {"kind": "Runbook", "name": "checkout"}},
        }
        self.world.apply(manifest)
        spec = self.world.admin.json("get", "runbook", "checkout", "-n", self.world.name)["spec"]
        await self.context.revisions.ensure(self.world.name, ran(self.world, began)["runbook"]["revision"], spec)
        self._store.join(self.key, (self.world.name, "run"))  # as the run's controller does
        for status in (ran(self.world, began), ran(self.world, began, ended)):
            raw = {**self.world.run("run"), "kind": "IncidentRun"}
            await self.kube.write_status(raw, status)
            await self.look()

    async def close(self) -> None:
        """Close what is open."""
        await self._messenger.close()
        await self._evaluator.close()
        self._pool.close()


@contextlib.asynccontextmanager
async def an_hour_later(
    world: World, monkeypatch: pytest.MonkeyPatch, receivers: Receivers, **closeout: Any
) -> AsyncIterator[tuple[Office, datetime]]:
    """Let an incident be resolved an hour ago, with good samples since; yield the office, and when it is closed out."""
    key = world.shop.keys["operator"]
    settings = {
        **world.stack.aws_env("none"),
        "KUBECONFIG": str(world.stack.operator_kubeconfig),
        "AWS_ENDPOINT_URL": world.stack.aws_endpoint,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    an_escalation_policy(world, receivers)
    world.admin.apply([runbook(world.name, **closeout)])
    now = Clock().now().replace(microsecond=0)
    resolved, detected = now - timedelta(hours=1), now - timedelta(minutes=70)
    samples(world, FELT, 0, *(resolved + timedelta(minutes=after) - timedelta(seconds=30) for after in (15, 30, 60)))
    clock = StandingClock(detected)
    kube = await Kube.connect(clock)
    office = Office(world, kube, clock)
    try:
        spec = IncidentSpec(title="Checkout fails", severity=Severity.P1, detected_at=detected)
        await kube.create_once(Incident(metadata=Metadata(name=NAME, namespace=world.name), spec=spec))
        await office.look()
        clock.at = resolved
        await office.run(detected, resolved)
        yield office, now
    finally:
        await office.close()
        await kube.close()


def duties(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return each duty's state and what stands beside it."""
    return {duty["name"]: (duty["state"], duty.get("message", "")) for duty in status["closeout"]["duties"]}


async def test_an_incident_is_closed_by_the_operators_own_proof(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says a word: messages arrived, metrics stay normal, the alarm rang and is quiet, nothing else was hit."""
    alarm_that_rang(world)
    with Receivers() as receivers:
        async with an_hour_later(world, monkeypatch, receivers) as (office, now):
            status = await office.until(now - timedelta(minutes=1))
            assert status["closeout"]["looks"] == ["Passing", "Passing"]
            assert duties(status)["alertsWorking"] == ("Open", "")
            status = await office.until(now)
    assert {state for state, _ in duties(status).values()} == {"Done"}, status["closeout"]
    assert {duty["by"] for duty in status["closeout"]["duties"]} == {"incident-operator"}
    assert duties(status)["alertsWorking"][1] == "these checks pass: alarm"
    assert status["phase"] == "Closed"
    assert condition_of(status, "ClosedOut") == ("True", "DutiesDone")
    assert "CloseOutOverdue" not in [entry["reason"] for entry in status["timeline"]]
    assert [c for c in world.journal() if c["mutating"] and "IncidentOperatorRead" in c["principal"]] == []


async def test_an_alarm_that_would_tell_nobody_is_left_to_a_person(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody disabled it during the night; and what the runbook does not ask about is a person's, too."""
    alarm_that_rang(world)
    world.shop.client("cloudwatch").disable_alarm_actions(AlarmNames=[ALARM])
    with Receivers() as receivers:
        async with an_hour_later(world, monkeypatch, receivers, watchAlso=[]) as (office, now):
            status = await office.until(now + timedelta(minutes=5))
    found = duties(status)
    assert found["metricsNormal"][0] == "Done", [entry["message"] for entry in status["timeline"]]
    assert found["alertsWorking"] == (
        "Open",
        "Failing, a person has to look: alarm: AlarmDisabled "
        f"(the actions of alarm {ALARM} are disabled: it would tell nobody)",
    )
    state, message = found["secondaryImpacts"]
    assert (state, message.partition(": ")[2]) == ("Open", "the runbook names no checks for it (closeout.watchAlso)")
    assert status["phase"] == "Resolved"
    assert condition_of(status, "ClosedOut") == ("False", "Overdue")
    assert [c for c in world.journal() if c["mutating"] and "IncidentOperatorRead" in c["principal"]] == []
