"""What differs between two dumps of the simulator, and whose it is: only what plans touch may be another afterwards.

A dump has no telemetry, no instants, and says of a group how many instances it has, not which (decision 33). Each
difference is of one resource, and the resource must be in the `touches` of a plan that was begun.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .world import World

Path = tuple[str, ...]
_ABSENT = "absent"
#: How a resource is named in an ARN, by the part of the dump that shows it: `{}` is its name there.
_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "functions": (":function:{}",),
    "roles": (":role/{}", ":role/service-role/{}"),
    "users": (":user/{}",),
    "policies": ("{}",),
    "buckets": (":::{}",),
    "publicAccess": (":::{}",),
    "tables": (":table/{}",),
    "keys": (":key/{}",),
    "alarms": (":alarm:{}",),
    "targetGroups": (":targetgroup/{}",),
    "loadBalancers": (":loadbalancer/app/{}",),
    "autoScalingGroups": (":autoScalingGroupName/{}",),
    "launchTemplates": (":launch-template/{}",),
    "replicationGroups": (":replicationgroup:{}",),
    "rds": (":db:{}",),
    "networks": (":security-group/{}", ":network-acl/{}", ":route-table/{}"),
}
#: Parts whose first key is the region, and the second one the name.
_PER_REGION = frozenset({"functions", "tables", "keys", "alarms"})


def differences(before: Any, after: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield where two dumps differ, and both values; `absent` where there is none."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key, _ABSENT), after.get(key, _ABSENT), (*path, str(key)))
    elif before != after:
        yield path, before, after


def is_touched(path: Path, touches: Iterable[str]) -> bool:
    """Tell whether a difference is of a resource that is touched.

    A part that appears or goes as a whole is nobody's.
    """
    part, names = path[0], path[1:3] if path[0] in _PER_REGION else path[1:2]
    if not names or (part in _PER_REGION and len(names) < 2):
        return False
    # A policy's name is its whole ARN; of others, the region stands before a slash.
    name = names[-1] if part in _PER_REGION or part == "policies" else names[0].rpartition("/")[2]
    endings = [ending.format(name) for ending in _ENDINGS[part]]
    return any(_names(arn, ending) for arn in touches for ending in endings)


def _names(arn: str, ending: str) -> bool:
    """Tell whether an ARN names a resource: whole, or with what AWS adds behind it (an id, an alias, an object)."""
    _, found, rest = arn.partition(ending)
    return bool(found) and (not rest or rest[0] in ":/")


def touched(world: World) -> set[str]:
    """Return what the plans touch that were begun."""
    return {arn for p in world.plans() if (p.get("status") or {}).get("startedAt") for arn in p["spec"]["touches"]}


def only_touched(world: World, before: Any) -> dict[Path, Any]:
    """Return what differs from a dump, with its value now, having seen that plans touch all of it.

    Errors: AssertionError with what nobody was to touch.
    """
    found, touches = list(differences(before, world.dump())), touched(world)
    strange = [change for change in found if not is_touched(change[0], touches)]
    assert strange == [], f"changed, and in no plan's touches {sorted(touches)}: {strange}"
    return {path: after for path, _, after in found}
