"""The commands break and heal departments beside the birthday service, and seed them where that needs them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from dev.shop.__main__ import main
from dev.shop.departments import DEPARTMENTS, FAULTS
from dev.shop.examples import examples
from dev.shop.images import seed as images
from dev.shop.images.traffic import Browsers
from dev.shop.shop import Shop, load
from dev.stack import SHOP_LABELS, SHOP_NAMESPACE
from incident_operator.api.grant import ActionGrant

NAME = "inc-2023-0987"


def command(folder: Path, *arguments: str) -> Result:
    """Run `python -m dev.shop` for the shop of a folder."""
    return CliRunner().invoke(main, [*arguments, "--state-dir", str(folder)])


def pictures(shop: Shop) -> int:
    """Return what a browser is answered."""
    return Browsers(shop=shop).get(images.PRODUCTS[0])


def test_every_fault_that_can_be_broken_has_an_example_of_its_own() -> None:
    """What `break` tells people to apply is about that fault, and runs where the grants are."""
    assert len(FAULTS) == sum(len(department.faults) for department in DEPARTMENTS), "no name is used twice"
    known = examples()
    for name, fault in FAULTS.items():
        assert known[fault.example].fault == name
        assert known[fault.example].manifest["metadata"]["namespace"] == SHOP_NAMESPACE


@pytest.mark.parametrize("healed", [NAME, "all"])
def test_images_are_seeded_broken_and_healed(healed: str, a_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """By the media team, with the grant to apply written down; healing opens exactly what was open."""
    a_shop()
    broken = command(tmp_path, "break", "--wait", NAME)
    assert broken.exit_code == 0, broken.output
    shop = load(tmp_path)
    assert pictures(shop) == 403
    assert "customers fail now" in broken.output
    assert "kubectl apply -f examples/s3-access.yaml" in broken.output
    written = yaml.safe_load((tmp_path / "product-images.yaml").read_text())
    assert "product-images.yaml" in broken.output.split("let runs act:")[1]
    permitted = ActionGrant.model_validate(written)
    assert permitted.selects(dict(SHOP_LABELS))
    assert permitted.spec.aws is not None
    assert shop.account in permitted.spec.aws.role_arn

    assert "it was so already" in command(tmp_path, "break", NAME).output
    assert command(tmp_path, "heal", healed).exit_code == 0
    assert pictures(shop) == 200
    assert images.read_policy(shop) == images.declared(shop)


def test_what_was_never_broken_is_not_seeded_by_healing(a_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """Healing makes nothing that was not there."""
    a_shop()
    for name in (NAME, "all"):
        assert command(tmp_path, "heal", name).exit_code == 0
    assert images.MEDIA not in load(tmp_path).keys


def test_an_unknown_fault_lists_those_of_every_department(a_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """In one line, for both commands."""
    a_shop()
    for verb in ("break", "heal"):
        refused = command(tmp_path, verb, "lost")
        assert refused.exit_code == 1
        assert "inc-2023-1247" in refused.output
        assert NAME in refused.output


def test_all_faults_that_can_be_broken_are_listed() -> None:
    """And none of departments whose hosts must live on, or without an example."""
    listed = CliRunner().invoke(main, ["faults"]).output
    rows = listed.split("\n\n")[0].splitlines()[1:]
    names = [row.split()[0] for row in rows if not row.startswith(" ")]  # others go on with a long title
    assert names == list(FAULTS)
    assert NAME in names
    assert "images-untagged" not in names
