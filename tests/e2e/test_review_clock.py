"""The review's clock on a real API server: weeks pass in a moment, people edit, operators die, and each mark is told.

The clock is a test's own where it must pass weeks; where processes are killed it is the real one, and the review is
already late when the operator starts.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dev.controlplane.kubectl import KubectlError
from dev.faultproxy import Fault, Harm
from dev.processes import wait_until
from dev.receivers import Mood, Receivers
from incident_operator.adapters.kube import Kube
from incident_operator.adapters.notify import Messenger
from incident_operator.adapters.store import Key, Store
from incident_operator.api.meta import Metadata, format_instant
from incident_operator.api.review import PostIncidentReview, PostIncidentReviewSpec
from incident_operator.controllers.escalating import NotDelivered
from incident_operator.controllers.review import KIND, ReviewController
from incident_operator.core.review import DUE_AFTER
from incident_operator.runtime.watch import Watch
from incident_operator.settings import Settings

from .incidents import an_escalation_policy
from .test_admission_proof import AheadClock
from .world import World

NAME = "inc-2024-0001-00000000"
ITEM = {"text": "mend the role", "priority": "High", "owner": "@platform-team"}
#: What names the incident, and that it was drafted: nobody changes it any more.
FIXED = {"ticket", "detectedAt", "draftedAt"}


@asynccontextmanager
async def account(world: World, clock: AheadClock) -> AsyncIterator[Kube]:
    """Connect as the operator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(world.stack.operator_kubeconfig))
        kube = await Kube.connect(clock)
    try:
        yield kube
    finally:
        await kube.close()


@pytest.fixture
def clock() -> AheadClock:
    """Return a clock that a test puts forward."""
    return AheadClock()


@pytest.fixture
async def kube(world: World, clock: AheadClock) -> AsyncIterator[Kube]:
    """Return the API server as the operator's account sees it."""
    async with account(world, clock) as kube:
        yield kube


class Desk:
    """What an operator does with reviews, one look at a time: list, decide, write, tell."""

    def __init__(self, world: World, kube: Kube, clock: AheadClock) -> None:
        self.asked: list[Key] = []
        self.store = Store()
        self._watch = Watch(self.store, kube, self._enqueue, (world.name,))
        self._messenger = Messenger(clock, kube.endpoint, loopback=True)
        context: Any = SimpleNamespace(
            store=self.store,
            kube=kube,
            clock=clock,
            settings=Settings(identity="desk"),
            messenger=self._messenger,
        )
        self._controller = ReviewController(context)

    async def close(self) -> None:
        """Close what is open towards channels."""
        await self._messenger.close()

    def _enqueue(self, kind: str, key: Key) -> None:
        if kind == KIND:
            self.asked.append(key)

    async def look(self) -> list[datetime | None]:
        """List everything, and reconcile every review that is held; return when to look again at each."""
        await self._watch.list_all()
        self.asked.clear()
        keys = [(raw["metadata"]["namespace"], raw["metadata"]["name"]) for raw in self.store.all(KIND)]
        return [await self._controller.reconcile(key) for key in keys]


async def drafted(world: World, kube: Kube, ended_at: datetime, name: str = NAME, **spec: Any) -> None:
    """Store a review as it stands at the end of its run."""
    new = PostIncidentReview(
        metadata=Metadata(name=name, namespace=world.name),
        spec=PostIncidentReviewSpec.model_validate(
            {"ticket": "INC-2024-0001", "detectedAt": ended_at, "draftedAt": ended_at, **spec}
        ),
    )
    raw = await kube.create_once(new)
    await kube.write_status(raw, {"dueAt": format_instant(ended_at + DUE_AFTER)})


def stored(world: World, name: str = NAME) -> dict[str, Any]:
    """Return a review as it is."""
    return dict(world.admin.json("get", "pir", "-n", world.name, name))


def edit(world: World, **spec: Any) -> None:
    """Let alice write the review. Errors: KubectlError."""
    world.alice.run("patch", "pir", NAME, "-n", world.name, "--type=merge", "-p", json.dumps({"spec": spec}))


def events(world: World, name: str = NAME) -> list[tuple[str, int]]:
    """Return the Events of a review, oldest first: reason and how often."""
    found = world.admin.json("get", "events", "-n", world.name, f"--field-selector=involvedObject.name={name}")["items"]
    ordered = sorted(found, key=lambda event: (event["firstTimestamp"], event["metadata"]["resourceVersion"]))
    return [(event["reason"], event["count"]) for event in ordered]


def condition(review: dict[str, Any]) -> tuple[str, str] | None:
    """Return status and reason of Overdue."""
    found = [c for c in (review.get("status") or {}).get("conditions", []) if c["type"] == "Overdue"]
    return (found[0]["status"], found[0]["reason"]) if found else None


def today(clock: AheadClock, days: int = 0) -> str:
    """Return a calendar day."""
    return f"{clock.now() + timedelta(days=days):%Y-%m-%d}"


async def test_past_all_reminders_what_a_person_wrote_is_byte_for_byte_the_same(
    world: World, kube: Kube, clock: AheadClock
) -> None:
    """Every field that may be written; the operator restarts at every mark, and says each once."""
    ended_at = clock.now()
    await drafted(world, kube, ended_at, title="drafted", actionItems=[ITEM])
    item = {**ITEM, "dueDate": today(clock, 7), "done": False}
    written: dict[str, Any] = {
        "title": "Mails, as alice calls it",
        "duration": "23m",
        "severity": "P1",
        "servicesAffected": ["User Authentication", "Product Search"],
        "customerImpact": "15% of requests failed",
        "resolution": "the policy was given back",
        "timeline": [{"at": "2024-01-15T14:30:00Z", "text": "alice noticed"}],
        "primaryCause": {"text": "a deployment took it away", "probable": False},
        "contributingFactors": ["no test of policies"],
        "wentWell": [],
        "couldBeImproved": ["tell \u00fcs earlier"],
        "actionItems": [item, {"text": "nobody's yet", "priority": "Low", "done": False}],
        "knowledgeBase": ["add a symptom"],
        "complete": False,
    }
    fields = {field.alias for field in PostIncidentReviewSpec.model_fields.values()}
    assert set(written) == fields - FIXED, "a new field of the spec: let alice write it here"
    edit(world, **written)
    before = stored(world)
    text = json.dumps(before["spec"], ensure_ascii=False)
    said: list[tuple[str, int]] = []
    for hours in (1, 24.5, 30, 44.5, 48.5, 49, 24 * 9, 24 * 40):
        clock.ahead = timedelta(hours=hours)
        await Desk(world, kube, clock).look()
        await Desk(world, kube, clock).look()
        said += events(world)
        # A cluster keeps them for an hour: the next mark is told all the same, with the same words.
        world.admin.run("delete", "events", "--all", "-n", world.name)
    after = stored(world)
    assert json.dumps(after["spec"], ensure_ascii=False) == text
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert said == [
        *[("ReviewDueSoon", 1), ("ReviewDueSoon", 1)],
        *[("ReviewOverdue", 1), ("ActionItemOverdue", 1)],
    ]
    status = after["status"]
    assert (condition(after), status["openItems"], status["overdueCount"]) == (("True", "PastDue"), 2, 1)
    assert status["overdueItems"] == [{"text": item["text"], "owner": item["owner"], "dueDate": item["dueDate"]}]
    shown = world.alice.run("get", "pir", "-n", world.name).splitlines()
    assert shown[0].split()[4:10] == ["DURATION", "DUE", "OVERDUE", "OPEN-ITEMS", "OVERDUE-ITEMS", "COMPLETE"]
    assert shown[1].split()[-6:-1] == [format_instant(ended_at + DUE_AFTER), "True", "2", "1", "false"]


async def test_a_finished_review_leaves_the_watch_and_comes_back_when_it_is_taken_up(
    world: World, kube: Kube, clock: AheadClock
) -> None:
    """Old ones are in no list and in no memory; new work needs the review to be open again."""
    await drafted(world, kube, clock.now())
    for number in range(20):
        await drafted(world, kube, clock.now() - timedelta(days=400), name=f"old-{number}", complete=True)
    desk = Desk(world, kube, clock)
    await desk.look()
    assert [raw["metadata"]["name"] for raw in desk.store.all(KIND)] == [NAME]
    asked_again = Desk(world, kube, clock)
    await asked_again.look()
    assert asked_again.store.count([KIND]) == 1
    edit(world, complete=True)
    clock.ahead = timedelta(days=30)
    assert await desk.look() == [None]
    done = stored(world)
    assert (done["status"]["settled"], condition(done)) == (True, ("False", "Complete"))
    assert await desk.look() == []
    assert events(world) == [], "finished in time: nobody was reminded"
    with pytest.raises(KubectlError, match="write complete: false together with an action item"):
        edit(world, actionItems=[{**ITEM, "dueDate": today(clock, -1)}])
    edit(world, wentWell=["words may always change"])
    edit(world, complete=False, actionItems=[{**ITEM, "dueDate": today(clock, -1)}])
    assert len(await desk.look()) == 1
    again = stored(world)
    assert (again["status"]["settled"], condition(again)) == (False, ("True", "PastDue"))
    assert sorted(events(world)) == [("ActionItemOverdue", 1), ("ReviewOverdue", 1)]
    assert [one["key"].split("-")[0] for one in again["status"]["reminders"]] == ["review"] * 3 + ["item"]


async def test_a_person_who_writes_at_the_same_time_loses_nothing(
    world: World, kube: Kube, clock: AheadClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's write meets a newer object, and decides again on it."""
    await drafted(world, kube, clock.now())
    desk = Desk(world, kube, clock)
    await desk.look()
    clock.ahead = timedelta(hours=25)
    tell, said = kube.tell, []

    async def meanwhile(*arguments: Any) -> None:
        await tell(*arguments)
        said.append(arguments[1])
        if len(said) == 1:
            edit(world, title="written meanwhile")

    monkeypatch.setattr(kube, "tell", meanwhile)
    await desk.look()
    review = stored(world)
    assert review["spec"]["title"] == "written meanwhile"
    assert [bool(one.get("toldAt")) for one in review["status"]["reminders"]] == [True]
    assert said == ["ReviewDueSoon"] * 2, "at least once: nobody knows that the first was told"
    assert events(world) == [("ReviewDueSoon", 2)], "the same words, counted"


@contextmanager
def late_review(world: World) -> Iterator[None]:
    """Let there be a review that should have been finished an hour ago, and work that is late since yesterday."""

    async def make() -> None:
        clock = AheadClock()
        async with account(world, clock) as kube:
            items = [{**ITEM, "dueDate": today(clock, -2)}]
            await drafted(world, kube, clock.now() - DUE_AFTER - timedelta(hours=1), actionItems=items)

    asyncio.run(make())
    yield


@pytest.mark.parametrize("harm", [Harm.UNSENT, Harm.LOST])
@pytest.mark.parametrize(("what", "nth"), [("status", 1), ("events", 1), ("events", 2), ("status", 2)])
def test_killed_at_any_write_it_tells_all_the_same(
    make_world: Callable[..., World], what: str, nth: int, harm: Harm
) -> None:
    """Before the API server has seen it, and before the operator has seen the answer; then it is settled for good."""
    world = make_world(through_proxy=True)
    assert world.proxy is not None
    operator = world.operator()
    with late_review(world), operator:
        names = {"status": "postincidentreviews/status", "events": f"/api/v1/namespaces/{world.name}/events"}
        killed = Fault(what=names[what], harm=harm, nth=nth, act=operator.kill)
        world.proxy.arm(killed)

        def told() -> bool:
            reminders = (stored(world).get("status") or {}).get("reminders", [])
            return len(reminders) == 4 and all("toldAt" in one for one in reminders)

        assert wait_until(told, seconds=60, every=0.25), f"{stored(world)}\n{world.log()}"
        assert killed.struck.is_set()
        said = dict(events(world))
        assert set(said) == {"ReviewOverdue", "ActionItemOverdue"}, "three marks, one digest; and the work"
        edit(world, complete=True, actionItems=[{**ITEM, "done": True}])
        settled = wait_until(lambda: bool(stored(world)["status"].get("settled")), seconds=30, every=0.25)
        assert settled, f"{stored(world)}\n{world.log()}"
        assert condition(stored(world)) == ("False", "Complete")


async def test_reminders_reach_those_they_are_for(world: World, kube: Kube, clock: AheadClock) -> None:
    """A mail to the on-call engineer, the room for an owner without an address; again after a failure."""
    with Receivers() as receivers:
        an_escalation_policy(world, receivers)
        await drafted(world, kube, clock.now(), actionItems=[{**ITEM, "dueDate": today(clock), "done": False}])
        desk = Desk(world, kube, clock)
        await desk.look()
        assert receivers.mail.received == []
        clock.ahead += timedelta(hours=25)
        receivers.mail.be(Mood.FAILED, times=1)
        with pytest.raises(NotDelivered):
            await desk.look()
        await desk.look()
        assert [received.what for received in receivers.mail.received] == ["mail to platform-oncall@company.com"]
        assert any(ITEM["owner"] in str(message) for message in receivers.slack.messages.values())
        await desk.close()
