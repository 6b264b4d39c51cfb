"""What a department of the shop is to the commands that break and heal it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml
from botocore.exceptions import ClientError

from dev.processes import wait_until

from .examples import Example, examples
from .faults import Fault
from .granting import LABEL
from .living import Living
from .seed import absent
from .shop import DEFAULT_ACCOUNT, Shop, ShopError

#: How long customers may take to feel a fault, and one that was there before. Seconds.
FELT_SECONDS = 90.0
STILL_FELT_SECONDS = 15.0


class Broken(Protocol):
    """What every fault says of itself, whoever does it."""

    @property
    def name(self) -> str:
        """What `break` calls it."""

    @property
    def title(self) -> str:
        """What happens."""

    @property
    def ticket(self) -> str:
        """The ticket it comes from."""

    @property
    def actor(self) -> str:
        """Who does it."""

    @property
    def example(self) -> str:
        """The run to apply: a file of `examples/`."""

    @property
    def ends(self) -> str:
        """How that run ends, where its example is about another fault."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where commands act. Shape: `time_scale` is the stack's; `say` tells somebody what takes time."""

    state_dir: Path
    time_scale: float
    say: Callable[[str], None]


class Department(ABC):
    """A part of the shop with faults of its own, made beside the birthday service where one of them is first broken.

    Shape: `title` is what it is, for people; runs of its team are in `namespace`, with the grants of `manifests`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: The value of the label that grants select namespaces by.
    team: ClassVar[str]
    #: What is said once a fault is felt, and where it is not.
    seen: ClassVar[str] = "customers fail now"
    unseen: ClassVar[str] = "no customer failed in time: is the traffic on?"

    @property
    def namespace(self) -> str:
        """Where its team's runs are."""
        return f"shopsmart-{self.team}"

    @property
    @abstractmethod
    def faults(self) -> Mapping[str, Broken]:
        """Its faults by name."""

    @abstractmethod
    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether it is there."""

    @abstractmethod
    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make it, and begin what lives outside AWS; return the shop with its people's keys."""

    @abstractmethod
    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """Return what runs of it need: its ActionGrant, and the Secrets of its connections."""

    @abstractmethod
    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """Wait until customers feel a fault; False where they do not within `seconds`."""

    def break_(self, stage: Stage, shop: Shop, name: str) -> bool:
        """Break it; False where it is broken in this way already."""
        fault = self.faults[name]
        if not isinstance(fault, Fault):
            raise TypeError(f"{name} is not broken over the wire: the {self.name} break it themselves")
        return fault.break_(shop)

    def heal(self, stage: Stage, shop: Shop, names: Iterable[str]) -> None:
        """Make what these faults rest on what it was."""
        faults = [fault for name in names if isinstance(fault := self.faults[name], Fault)]
        for part in dict.fromkeys(part for fault in faults for part in fault.parts):
            part(shop)

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """Return the parameters that an example can't know: ids, addresses, times."""
        return {}

    # --- what is the same for all -----------------------------------------------------------------------------

    def manifests(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """Return the namespace of its team and its grants."""
        space = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {LABEL: self.team}},
        }
        return [space, *self.grants(stage, shop)]

    def run_of(self, stage: Stage, shop: Shop, name: str) -> tuple[Example, dict[str, Any]]:
        """Return a fault's example, and the run to apply: the example's own wherever nothing has to be put in."""
        fault = self.faults[name]
        example = examples()[fault.example]
        manifest: dict[str, Any] = json.loads(json.dumps(example.manifest).replace(DEFAULT_ACCOUNT, shop.account))
        if example.fault != name:
            manifest["metadata"]["name"] = name
            manifest["spec"]["incident"] |= {"ticket": fault.ticket, "title": fault.title}
        manifest["spec"]["parameters"] |= self.parameters(stage, shop, name)
        return example, manifest

    def run_file(self, stage: Stage, shop: Shop, name: str) -> tuple[Example, Path, dict[str, Any]]:
        """Return a fault's example, where the run to apply is, and the run: a file of its own where it differs."""
        example, manifest = self.run_of(stage, shop, name)
        if manifest == example.manifest:
            return example, example.file, manifest
        file = stage.state_dir / "runs" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {example.path} for this stack.\n" + yaml.safe_dump(manifest, sort_keys=False, width=110))
        return example, file, manifest


class LivingDepartment(Department):
    """One with a part that lives outside AWS."""

    def life(self, stage: Stage) -> Living:
        """Return its process."""
        return Living(name=self.name, state_dir=stage.state_dir)

    def begin(self, stage: Stage, shop: Shop) -> None:
        """Begin its process, unless it runs."""
        if not self.life(stage).is_alive(shop):
            stage.say(f"  starting {self.lives}")
            self.life(stage).begin(shop)

    #: What lives there, for people.
    lives: ClassVar[str]

    def failing(self, stage: Stage) -> float:
        """Return which share of its customers is not served."""
        return float(self.life(stage).ask("failing"))

    def await_well(self, stage: Stage) -> None:
        """Wait until all customers are served. Errors: ShopError."""
        if not wait_until(lambda: self.failing(stage) == 0, seconds=FELT_SECONDS, every=0.25):
            raise ShopError(f"customers of the {self.name} are not served after {FELT_SECONDS:.0f} s")

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """Wait until a good part of the customers is not served, a few times in a row."""
        return wait_until(lambda: self.failing(stage) > 0.1, seconds=seconds, every=0.25)


def has_key(shop: Shop, user: str) -> bool:
    """Tell whether the key that the shop knows of a user is one that AWS knows."""
    if user not in shop.keys:
        return False
    try:
        found = shop.client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
    except ClientError as error:
        absent(error, "NoSuchEntity")
        return False
    return shop.keys[user].access_key_id in {key["AccessKeyId"] for key in found}
