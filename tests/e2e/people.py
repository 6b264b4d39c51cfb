"""What people do with a run that asks them: as an example's comment says."""

from typing import Any

from dev.processes import wait_until
from dev.shop.examples import Example

from .world import World


def plan_that_names_who(world: World, run: str) -> dict[str, Any]:
    """Return the open plan once it is known who took the access away.

    CloudTrail shows it a while later, and that is another plan: what was said of the former one is void.
    """
    found: dict[str, Any] = {}

    def known() -> bool:
        found.update(world.open_plan(run))
        return "AccessRemovedOnPurpose" in found["spec"]["askBecause"]

    assert wait_until(known, seconds=60)
    return found


def people_do(world: World, example: Example) -> None:
    """Let bob, who did not ask for the run, do what the example says people do; nothing where it says nothing."""
    name = example.manifest["metadata"]["name"]
    match example.people:
        case "approve":
            plan = world.open_plan(name)
            word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
            assert world.answer(word)["status"] == "True"
        case "reject":
            plan = plan_that_names_who(world, name)
            word = world.say("bob", "Reject", plan, reason="it was taken away on purpose")
            assert world.answer(word)["status"] == "True"
        case "cancel":
            world.open_plan(name)
            word = world.say("bob", "Cancel", world.run(name), then="Leave", reason="another team is on it")
            assert world.answer(word)["status"] == "True"
        case None:
            pass
        case other:
            raise AssertionError(f"{example.file.name}: nobody knows how to {other}")
