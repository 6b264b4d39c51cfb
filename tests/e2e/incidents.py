"""An EscalationPolicy whose channels lead to receivers on this machine, and what people see of incidents."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from dev.processes import wait_until
from dev.receivers import Receivers, readable
from tests.core.policies import FILE

from .world import World

#: Options of an operator whose channels may lead to this machine.
LOOPBACK = {"loopback-channels": True}


def an_escalation_policy(world: World, receivers: Receivers | None = None, **spec: Any) -> None:
    """Apply the shipped policy to the world's namespace, with channels that reach these receivers: none, if None."""
    policy = yaml.safe_load(FILE.read_text())
    policy["metadata"]["namespace"] = world.name
    channels: list[dict[str, Any]] = []
    if receivers is not None:
        channels, secrets = receivers.channels(), receivers.secrets(world.name)
        world.admin.apply(secrets)
        world.admin.apply(readable(world.name, [secret["metadata"]["name"] for secret in secrets]))
    policy["spec"] |= {"channels": channels, **spec}
    world.admin.apply([policy])


def incidents(world: World) -> list[dict[str, Any]]:
    """Return the incidents of the namespace."""
    return list(world.admin.json("get", "incidents", "-n", world.name)["items"])


def the_incident(world: World, seconds: float = 30) -> dict[str, Any]:
    """Wait until there is an incident that the operator has taken up, and return it."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [one for one in incidents(world) if one.get("status")]
        return bool(found)

    assert wait_until(there, seconds=seconds, every=0.25), f"there is no incident:\n{world.log()}"
    return found[0]


def wait_for(world: World, name: str, condition: Callable[[dict[str, Any]], bool], seconds: float = 60) -> Any:
    """Wait until an incident's status meets a condition, and return it. Errors: AssertionError with the story."""
    status: dict[str, Any] = {}

    def met() -> bool:
        status.clear()
        status.update(world.admin.json("get", "incident", "-n", world.name, name).get("status") or {})
        return condition(status)

    if not wait_until(met, seconds=seconds, every=0.25):
        lines = [f"{e['at']} {e['reason']}: {e['message']}" for e in status.get("timeline", [])]
        shown = json.dumps({k: v for k, v in status.items() if k != "timeline"}, indent=1)
        raise AssertionError("\n".join(["the incident did not get there:", *lines, shown, world.log()]))
    return dict(status)


def condition_of(status: Mapping[str, Any], type_: str) -> tuple[str, str]:
    """Return status and reason of a condition."""
    found = next(c for c in status["conditions"] if c["type"] == type_)
    return found["status"], found["reason"]
