"""What people do with a run that asks them: as an example's comment says."""

from dev.processes import wait_until
from dev.shop.examples import Example

from .world import World


def people_do(world: World, example: Example) -> None:
    """Let bob, who did not ask for the run, do what the example says people do; nothing where it says nothing."""
    name = example.manifest["metadata"]["name"]
    match example.people:
        case "approve":
            plan = world.open_plan(name)
            word = world.say("bob", "Approve", plan, tier=plan["spec"]["tier"])
            assert world.answer(word)["status"] == "True"
        case "reject":
            # He reads who took it away, which CloudTrail shows a while later.
            assert wait_until(
                lambda: "AccessRemovedOnPurpose" in world.open_plan(name)["spec"]["askBecause"], seconds=60
            )
            word = world.say("bob", "Reject", world.open_plan(name), reason="it was taken away on purpose")
            assert world.answer(word)["status"] == "True"
        case "cancel":
            world.open_plan(name)
            word = world.say("bob", "Cancel", world.run(name), then="Leave", reason="another team is on it")
            assert world.answer(word)["status"] == "True"
        case None:
            pass
        case other:
            raise AssertionError(f"{example.file.name}: nobody knows how to {other}")
