"""What commands can break: the birthday service, and departments that need no process of their own to live on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev.processes import wait_until

from . import faults as birthday
from .alarm import wait_until_felt
from .examples import examples
from .faults import ALL, Fault
from .grant import grant
from .granting import LABEL
from .images import faults as images
from .images import grant as images_grant
from .images import seed as images_seed
from .images.traffic import Browsers
from .shop import Shop, ShopError


@dataclass(frozen=True, kw_only=True)
class Department:
    """A part of the shop with faults of its own.

    Shape: `seed` makes it beside a seeded birthday service; `is_seeded` looks at the shop's keys; `grant` is the
    ActionGrant that its runs need beside the birthday service's, None where there is none; `felt` tells whether users
    fail within a minute, given the stack's time scale.
    """

    faults: Mapping[str, Fault]
    is_seeded: Callable[[Shop], bool]
    seed: Callable[[Shop, Path], Shop]
    grant: Callable[[Shop], dict[str, Any]] | None
    felt: Callable[[Shop, float], bool]

    def write_grant(self, shop: Shop, state_dir: Path) -> Path | None:
        """Write the grant to apply; return where it is, None where none is needed."""
        if self.grant is None:
            return None
        manifest = self.grant(shop)
        file = state_dir / f"{manifest['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(manifest, sort_keys=False, width=110))
        return file


def _images_grant(shop: Shop) -> dict[str, Any]:
    """Return the images' grant for where the examples run: the namespace of the birthday team."""
    team = grant(shop.account)["spec"]["namespaceSelector"]["matchLabels"][LABEL]
    return images_grant.grant(shop.account, team)


def _pictures_refused(shop: Shop, _: float) -> bool:
    browsers = Browsers(shop=shop)
    return wait_until(lambda: browsers.get(images_seed.PRODUCTS[0]) == 403, seconds=60)


def _with_example(faults: Mapping[str, Fault]) -> Mapping[str, Fault]:
    """Return the faults that an example is about: for others there is nothing to apply."""
    known = examples()
    return {name: fault for name, fault in faults.items() if known[fault.example].fault == name}


DEPARTMENTS = (
    Department(
        faults=birthday.FAULTS,
        is_seeded=lambda shop: True,
        seed=lambda shop, state_dir: shop,
        grant=None,
        felt=lambda shop, time_scale: wait_until_felt(shop, time_scale=time_scale),
    ),
    Department(
        faults=_with_example(images.FAULTS),
        is_seeded=lambda shop: images_seed.MEDIA in shop.keys,
        seed=images_seed.seed,
        grant=_images_grant,
        felt=_pictures_refused,
    ),
)
#: Every fault that a command can break.
FAULTS: Mapping[str, Fault] = {name: fault for one in DEPARTMENTS for name, fault in one.faults.items()}


def department_of(name: str) -> Department:
    """Return whose fault it is. Errors: ShopError that lists the names."""
    for department in DEPARTMENTS:
        if name in department.faults:
            return department
    raise ShopError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")


def heal(shop: Shop, name: str) -> None:
    """Make what a fault (or `all`) rests on what it was; a department that is not seeded has nothing broken.

    Errors: ShopError that lists the names.
    """
    for department in DEPARTMENTS if name == ALL else (department_of(name),):
        if department.is_seeded(shop):
            healed = department.faults.values() if name == ALL else (department.faults[name],)
            for part in dict.fromkeys(part for fault in healed for part in fault.parts):
                part(shop)
