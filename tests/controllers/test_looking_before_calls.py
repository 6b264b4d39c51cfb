"""What is looked at again before a call: the approval may be of a world that is no more."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from incident_operator.actions.autoscaling_instances import RecycleInputs, RecycleInstances
from incident_operator.adapters.pool import Pool
from incident_operator.api.plan import JournalEntry, PlanState, RemediationPlan
from incident_operator.api.run import IncidentRunStatus
from incident_operator.controllers.plan_effects import PlanEffects
from incident_operator.core.draft import PlanDraft
from incident_operator.core.plan import Await, Execute, PlanView, decide_plan
from incident_operator.core.schedule import Timing
from tests.actions.webtier import GROUP_ARN, WebReader, instance_id, member, reader, scaling_group, target
from tests.builders import NOW, a_grant, a_plan, a_run, an_approval

INPUTS = {"autoScalingGroup": "web-asg", "migrationRunning": False, "connection": "database"}


class World:
    """One plan to recycle two instances, agreed to while no migration ran; `seen` is what there is to see now."""

    def __init__(self) -> None:
        self.seen: WebReader = reader(sessions={})
        self.grant = a_grant(
            actions=["autoscaling.*"],
            aws={"roleArn": a_plan().spec.role, "regions": ["us-east-1"], "resources": [GROUP_ARN]},
        )
        inputs = RecycleInputs.model_validate({**INPUTS, "hosts": [instance_id(3), instance_id(1)]})
        self.before = RecycleInstances().observe(inputs, self.seen)
        draft = RecycleInstances().plan(inputs, self.before)
        assert isinstance(draft, PlanDraft)
        self.plan = a_plan(
            action=RecycleInstances.name,
            inputs=inputs.wire(),
            calls=draft.calls,
            touches=draft.touches,
            risk=draft.risk,
            tier="Disruptive",
            undo=None,
            irreversible=draft.irreversible,
        )
        self.plan = self.written(approvals=(an_approval("bob", tier="Disruptive"),))
        settings = SimpleNamespace(observe_timeout=timedelta(seconds=5), scaled=Timing().scaled)
        store = SimpleNamespace(
            read_all=lambda *_: (self.grant,), get=lambda kind, key: a_run().wire() if kind == "IncidentRun" else None
        )
        self.effects = PlanEffects(
            SimpleNamespace(  # type: ignore[arg-type]  (no more of a context is used before anything is called)
                clock=SimpleNamespace(now=lambda: NOW),
                settings=settings,
                pool=Pool(1),
                store=store,
                kube=SimpleNamespace(namespace_labels=self._labels),
                reader=lambda *_, **__: self.seen,
            )
        )

    @staticmethod
    async def _labels(_: str) -> dict[str, str]:
        return {"team": "shop"}

    def written(self, **status: Any) -> RemediationPlan:
        """Return the plan with this in its status."""
        return self.plan.model_copy(update={"status": self.plan.status.model_copy(update=status)})

    def view(self, **seen: Any) -> PlanView:
        """Return what the decision knows: the run has handed over to the plan."""
        return PlanView(
            plan=self.plan,
            run=a_run(status=IncidentRunStatus(active_plan=self.plan.metadata.name)),
            grant=self.grant,
            epoch=1,
            holder="me",
            call_timeout=timedelta(seconds=10),
            timing=Timing(),
            **seen,
        )


async def test_a_migration_that_began_while_people_were_asked_keeps_every_instance() -> None:
    """The plan is void, says why and whose approval that was, and nothing is sent."""
    world = World()
    world.seen = reader(sessions={"migrations": 1})
    replanned = await world.effects.replan(world.plan, world.view())
    decision = decide_plan(world.view(replanned=replanned), NOW)
    assert (decision.status.state, decision.status.reason) == (PlanState.SUPERSEDED, "WorldChanged")
    assert decision.status.message == "a migration runs: recycling would cut it in two; the approval of bob is void"
    assert decision.status.calls == ()
    assert not any(isinstance(effect, Execute) for effect in decision.effects)


@pytest.mark.parametrize(("migrations", "goes_on"), [(0, True), (1, False)])
async def test_a_migration_that_began_meanwhile_holds_the_next_instance(migrations: int, goes_on: bool) -> None:
    """The one before was replaced; the next one waits until the migration is over."""
    world = World()
    made = JournalEntry(
        index=0, state="Succeeded", intent_at=NOW, deadline=NOW, finished_at=NOW, epoch=1, holder="me", summary="first"
    )
    world.plan = world.written(state="Applying", epoch=1, calls=(made,), pre_image=world.before.wire())
    replaced = scaling_group(member(1), member(2), member(4))
    world.seen = reader([target(1), target(2), target(4)], replaced, sessions={"migrations": migrations})
    assert decide_plan(world.view(), NOW).effects == (Await(1),)
    awaited = await world.effects.awaits(world.plan, 1)
    decision = decide_plan(world.view(awaited=awaited), NOW)
    assert decision.effects == ((Execute("Apply", 1, 1),) if goes_on else ())
    assert ("a migration runs" in decision.status.message) is not goes_on
