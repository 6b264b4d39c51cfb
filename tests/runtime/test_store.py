"""What the store keeps of what a watch says, and of what it does not say."""

from typing import Any

from incident_operator.adapters.store import Store

RUN = ("shop", "inc-1")
PLAN = ("shop", "inc-1-fix")


def _run() -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": "inc-1", "uid": "r", "resourceVersion": "1"}}


def _plan(version: int, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "inc-1-fix", "uid": "p", "resourceVersion": str(version)},
        "spec": {"runRef": {"name": "inc-1", "uid": "r"}},
        "status": status,
    }


def test_a_settled_plan_is_kept_while_its_run_is_live() -> None:
    """Its run decides by how it ended: a fix that had no effect is not tried again."""
    store = Store()
    store.put("IncidentRun", _run())
    store.put("RemediationPlan", _plan(2, state="NoEffect", settled=True))
    store.gone("RemediationPlan", PLAN)
    assert [p["status"]["state"] for p in store.plans_of(*RUN)] == ["NoEffect"]
    assert store.plans_in_doubt == set()
    store.remove("IncidentRun", RUN)
    assert store.get("RemediationPlan", PLAN) is None


def test_a_plan_that_settled_unseen_puts_its_run_in_doubt() -> None:
    """The answer to the settling write was lost, and the watch's DELETED shows the plan as it was before."""
    store = Store()
    store.put("IncidentRun", _run())
    store.put("RemediationPlan", _plan(2, state="Helped"))
    store.gone("RemediationPlan", PLAN)
    assert store.plans_of(*RUN) == []
    assert store.plans_in_doubt == {RUN}
    store.put("RemediationPlan", _plan(3, state="Helped", settled=True))
    assert [p["status"]["state"] for p in store.plans_of(*RUN)] == ["Helped"]
    store.remove("IncidentRun", RUN)
    assert store.plans_in_doubt == set()


def test_a_plan_without_a_live_run_is_forgotten_when_it_settles() -> None:
    """Nobody decides by it any more."""
    store = Store()
    store.put("RemediationPlan", _plan(2, state="Helped"))
    store.gone("RemediationPlan", PLAN)
    assert store.get("RemediationPlan", PLAN) is None
    assert store.plans_in_doubt == set()


def test_a_settled_review_is_dropped_and_one_that_was_taken_up_again_is_kept() -> None:
    """Its status says that it is settled until the operator has looked at it."""
    store = Store()
    metadata = {"namespace": "shop", "name": "inc-1-00000000", "uid": "i"}

    def put(version: int, *, complete: bool) -> int:
        stored = {**metadata, "resourceVersion": str(version)}
        store.put(
            "PostIncidentReview", {"metadata": stored, "spec": {"complete": complete}, "status": {"settled": True}}
        )
        return store.count(["PostIncidentReview"])

    assert (put(1, complete=True), put(2, complete=False), put(3, complete=True)) == (0, 1, 0)
