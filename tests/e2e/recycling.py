"""Recycling, seen from outside: by the group's own activities and the journal of the simulator."""

import itertools
import re

from .world import World

_INSTANCE = re.compile(r"i-[0-9a-f]+")


def recycled_one_by_one(world: World, group: str) -> list[str]:
    """Return the instances of a group that the operator terminated, in order; it changed nothing else.

    Errors: AssertionError where one went before what replaces the one before was in service.
    """
    made = world.changes_by_operator()
    told = [(call["operation"], call["outcome"]) for call in made]
    assert set(told) == {("TerminateInstanceInAutoScalingGroup", "OK")}, told
    listed = world.shop.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group)["Activities"]
    gone = [a for a in reversed(listed) if a["Description"].startswith("Terminating")]
    assert len(gone) == len(made), [a["Description"] for a in listed]
    for before, after in itertools.pairwise(gone):
        launched = [
            a
            for a in listed
            if a["Description"].startswith("Launching") and before["StartTime"] <= a["StartTime"] <= after["StartTime"]
        ]
        assert len(launched) == 1, [a["Description"] for a in listed]
        assert launched[0]["EndTime"] <= after["StartTime"], "the replacement is in service first"
    return [_INSTANCE.findall(a["Description"])[0] for a in gone]
