"""The commands break and heal every department, and make it where that needs it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dev.processes import recorded, wait_until
from dev.shop.__main__ import main
from dev.shop.department import Broken, Department, LivingDepartment, Stage
from dev.shop.departments import DEPARTMENTS, FAULTS, department_of
from dev.shop.examples import examples
from dev.shop.images import seed as images
from dev.shop.images.traffic import Browsers
from dev.shop.living import Living
from dev.shop.network.place import is_open, tiers_of
from dev.shop.orders import replica as orders_replica
from dev.shop.partners import api, front
from dev.shop.partners import seed as partners
from dev.shop.shop import Shop, load
from incident_operator.api.grant import ActionGrant
from incident_operator.api.run import IncidentRun, RunPhase
from incident_operator.core.run import ENDS

NAME = "inc-2023-0987"
#: The eleven tickets of ShopSmart's history.
TICKETS = {
    "INC-2023-1247",
    "INC-2023-0892",
    "INC-2023-1456",
    "INC-2023-2156",
    "INC-2023-1789",
    "INC-2023-0445",
    "INC-2023-3421",
    "INC-2023-0987",
    "INC-2023-2890",
    "INC-2023-1654",
    "SEC-2023-0156",
}


def command(folder: Path, *arguments: str) -> Result:
    """Run `python -m dev.shop` for the shop of a folder."""
    return CliRunner().invoke(main, [*arguments, "--state-dir", str(folder)])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a state directory; what lives in it is ended, as `make down` does it."""
    yield tmp_path
    for daemon in recorded(tmp_path):
        assert daemon.stop(), f"{daemon.name} had ended by itself:\n{daemon.log.read_text()}"


def pictures(shop: Shop) -> int:
    """Return what a browser is answered."""
    return Browsers(shop=shop).get(images.PRODUCTS[0])


def written_for(folder: Path, department: str) -> dict[str, dict[str, Any]]:
    """Return the objects that `break` wrote down where there is no cluster, by kind and name."""
    file = folder / f"{department}-grants.yaml"
    assert file.stat().st_mode & 0o077 == 0, "it may hold passwords"
    return {f"{found['kind']}/{found['metadata']['name']}": found for found in yaml.safe_load_all(file.read_text())}


def test_every_ticket_can_be_broken() -> None:
    """And no name is used twice."""
    assert len(FAULTS) == sum(len(department.faults) for department in DEPARTMENTS)
    assert {fault.ticket for fault in FAULTS.values()} >= TICKETS


def test_every_runbook_has_a_fault_and_an_example_of_that_fault() -> None:
    """What is shipped can be tried by command."""
    shipped = {file.stem for file in Path("manifests/runbooks").glob("*-*.yaml")}
    known = examples()
    about = {f.example: known[f.example] for f in FAULTS.values() if known[f.example].fault == f.name}
    assert {found.manifest["spec"]["runbookRef"]["name"] for found in about.values()} == shipped


@pytest.mark.parametrize("department", DEPARTMENTS, ids=lambda department: department.name)
def test_an_example_runs_where_its_department_may_act(department: Department) -> None:
    """In the namespace of its team; how it ends is said by the example, or by a fault that borrows it."""
    known = examples()
    for name, fault in department.faults.items():
        example = known[fault.example]
        assert example.manifest["metadata"]["namespace"] == department.namespace
        if example.fault == name:
            assert fault.ends == ""
        else:
            assert RunPhase(fault.ends.partition("/")[0]) in ENDS


@pytest.mark.parametrize("healed", [NAME, "all"])
def test_images_are_seeded_broken_and_healed(healed: str, a_shop: Callable[..., Shop], folder: Path) -> None:
    """By the media team, with what lets runs act written down; healing opens exactly what was open."""
    a_shop()
    broken = command(folder, "break", "--wait", NAME)
    assert broken.exit_code == 0, broken.output
    shop = load(folder)
    assert pictures(shop) == 403
    assert "making the product images, once" in broken.output
    assert "customers fail now" in broken.output
    assert "s3-access.yaml" in broken.output or f"{NAME}.yaml" in broken.output
    assert "images-grants.yaml" in broken.output.split("let runs act:")[1]
    written = written_for(folder, "images")
    permitted = ActionGrant.model_validate(written["ActionGrant/product-images"])
    assert permitted.selects(written["Namespace/shopsmart-images"]["metadata"]["labels"])
    assert permitted.spec.aws is not None
    assert shop.account in permitted.spec.aws.role_arn

    again = command(folder, "break", NAME)
    assert "it was so already" in again.output
    assert "once" not in again.output
    assert command(folder, "heal", healed).exit_code == 0
    assert pictures(shop) == 200
    assert images.read_policy(shop) == images.declared(shop)


def test_what_was_never_broken_is_not_made_by_healing(a_shop: Callable[..., Shop], folder: Path) -> None:
    """Healing makes nothing that was not there, and says so."""
    a_shop()
    for department in DEPARTMENTS[1:]:
        healed = command(folder, "heal", next(iter(department.faults)))
        assert healed.exit_code == 0, healed.output
        assert "was never broken" in healed.output
    assert command(folder, "heal", "all").exit_code == 0
    assert images.MEDIA not in load(folder).keys
    assert recorded(folder) == []


def test_an_unknown_fault_lists_those_of_every_department(a_shop: Callable[..., Shop], folder: Path) -> None:
    """In one line, for both commands."""
    a_shop()
    for verb in ("break", "heal"):
        refused = command(folder, verb, "lost")
        assert refused.exit_code == 1
        assert all(name in refused.output for name in FAULTS)


def test_all_faults_are_listed_by_department() -> None:
    """Each below the department it is of, with its ticket."""
    listed = CliRunner().invoke(main, ["faults"]).output.split("\n\n")[0].splitlines()[1:]
    rows = [row for row in listed if not row.startswith("   ")]  # others go on with a long title
    expected: list[tuple[str, ...]] = []
    for department in DEPARTMENTS:
        expected.append((f"{department.title}:",))
        expected += [(fault.name, fault.ticket) for fault in department.faults.values()]
    assert [tuple(row.split()[:2]) if row.startswith("  ") else (row.strip(),) for row in rows] == expected


def test_two_departments_are_broken_at_once_and_healed_together(a_shop: Callable[..., Shop], folder: Path) -> None:
    """The network with a process of its own, and the partners' keys; each heals without the other, and both do."""
    a_shop()
    for name in ("network-rule-removed", "sec-2023-0156"):
        broken = command(folder, "break", "--wait", name)
        assert broken.exit_code == 0, broken.output
        assert " now" in broken.output, broken.output
    shop = load(folder)
    assert not is_open(shop, tiers_of(shop))
    run, leaked = (
        IncidentRun.model_validate(yaml.safe_load((folder / "runs" / f"{name}.yaml").read_text()))
        for name in ("network-rule-removed", "sec-2023-0156")
    )
    assert run.spec.parameters["vpcId"] == tiers_of(shop).vpc
    assert leaked.spec.parameters["accessKeyId"] == shop.keys[partners.PARTNER].access_key_id
    assert leaked.spec.parameters["windowStart"] < leaked.spec.parameters["windowEnd"]

    assert command(folder, "heal", "sec-2023-0156").exit_code == 0
    assert len(shop.client("iam").list_access_keys(UserName=partners.PARTNER)["AccessKeyMetadata"]) == 1
    assert not is_open(shop, tiers_of(shop)), "the other fault is as it was"
    network = department_of("network-rule-removed")
    assert isinstance(network, LivingDepartment)
    healed = command(folder, "heal", "all")
    assert healed.exit_code == 0, healed.output
    assert is_open(shop, tiers_of(shop))
    network.await_well(Stage(state_dir=folder, time_scale=3000, say=print))


def test_an_api_key_that_is_scraped_is_read_of_in_the_log_and_good_again_once_healed(
    a_shop: Callable[..., Shop], folder: Path
) -> None:
    """The run says which key and when; breaking it anew is more of the same; healing undoes what a run did."""
    a_shop()
    for _ in range(2):
        broken = command(folder, "break", "--wait", "api-key-scraped")
        assert broken.exit_code == 0, broken.output
        assert department_of("api-key-scraped").seen in broken.output
    shop = load(folder)
    key = shop.keys[api.FEED].access_key_id
    run = IncidentRun.model_validate(yaml.safe_load((folder / "runs" / "api-key-scraped.yaml").read_text()))
    given = run.spec.parameters
    assert (given["apiKeyId"], "accessKeyId" in given) == (key, False)
    seen = [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in api.scraped_at(shop, partners.SCRAPER, datetime.fromtimestamp(0, UTC))]
    assert given["windowStart"] < seen[0] <= seen[-1] <= given["windowEnd"]
    disabled = {"op": "replace", "path": "/enabled", "value": "false"}
    shop.client("apigateway").update_api_key(apiKey=key, patchOperations=[disabled])
    assert command(folder, "heal", "api-key-scraped").exit_code == 0
    assert api.Caller(shop=shop, who=api.FEED).once()[0] == 200


def test_the_web_front_is_scraped_where_it_lives_and_healing_ends_it(a_shop: Callable[..., Shop], folder: Path) -> None:
    """The run names the dead key and when it was used last; what a run did to the web ACL is undone by healing."""
    a_shop()
    broken = command(folder, "break", "--wait", "web-acl-scraper")
    assert broken.exit_code == 0, broken.output
    assert department_of("web-acl-scraper").seen in broken.output
    again = command(folder, "break", "web-acl-scraper")
    assert "it was so already" in again.output, again.output
    shop, life = load(folder), Living(name="front", state_dir=folder)
    run = IncidentRun.model_validate(yaml.safe_load((folder / "runs" / "web-acl-scraper.yaml").read_text()))
    assert run.spec.parameters["accessKeyId"] == shop.keys["partner-former"].access_key_id
    waf = shop.client("wafv2")
    (found,) = waf.list_ip_sets(Scope="REGIONAL")["IPSets"]
    named = {"Name": found["Name"], "Scope": "REGIONAL", "Id": found["Id"]}
    blocked = [front.BLOCKED_BEFORE, f"{front.SCRAPER}/32"]
    waf.update_ip_set(**named, Addresses=blocked, LockToken=waf.get_ip_set(**named)["LockToken"])
    assert wait_until(lambda: life.ask("scraper") == 403, seconds=30, every=0.1)
    assert life.ask("scraped") is False
    (found,) = waf.list_web_acls(Scope="REGIONAL")["WebACLs"]
    acl = {"Name": found["Name"], "Scope": "REGIONAL", "Id": found["Id"]}
    held = waf.get_web_acl(**acl)
    kept = {name: held["WebACL"][name] for name in ("DefaultAction", "Description", "VisibilityConfig")}
    limited = [{**rule, "Action": {"Block": {}}} for rule in held["WebACL"]["Rules"]]
    waf.update_web_acl(**acl, **kept, Rules=limited, LockToken=held["LockToken"])
    healed = command(folder, "heal", "web-acl-scraper")
    assert healed.exit_code == 0, healed.output
    assert waf.get_ip_set(**named)["IPSet"]["Addresses"] == [front.BLOCKED_BEFORE]
    assert waf.get_web_acl(**acl)["WebACL"] == held["WebACL"]
    assert (life.ask("scraper"), life.ask("scraped")) == (200, False)
    assert life.ask("failing") == 0


def test_the_orders_live_on_and_are_healed_where_they_live(a_shop: Callable[..., Shop], folder: Path) -> None:
    """Both kinds of fault at once; the Secrets lead to the very instance that RDS knows: fixes refuse any other."""
    a_shop()
    leaked = command(folder, "break", "--wait", "inc-2023-2156")
    assert leaked.exit_code == 0, leaked.output
    assert "customers fail now" in leaked.output
    life = Living(name="orders", state_dir=folder)
    told, written = life.told(), written_for(folder, "orders")
    (instance,) = load(folder).client("rds").describe_db_instances()["DBInstances"]
    place = "{Address}:{Port}".format(**instance["Endpoint"])
    for secret in ("database", "databaseoperator", "databaseowner"):
        assert f"@{place}/" in written[f"Secret/{secret}"]["stringData"]["url"]
    assert "@{}:{}/".format(*told["application"]) in written["Secret/application"]["stringData"]["url"]
    assert not any(password in leaked.output for password in told["passwords"].values())
    without_index = command(folder, "break", "inc-2023-1789")
    assert without_index.exit_code == 0, without_index.output
    assert "once" not in without_index.output, "the database is the same"
    run = yaml.safe_load((folder / "runs" / "inc-2023-1789.yaml").read_text())
    assert (run["metadata"]["name"], run["spec"]["incident"]["ticket"]) == ("inc-2023-1789", "INC-2023-1789")
    assert run["spec"]["parameters"]["indexStatement"].startswith("CREATE INDEX CONCURRENTLY")
    assert life.ask("has-index") is False
    healed = command(folder, "heal", "all")
    assert healed.exit_code == 0, healed.output
    assert life.ask("has-index") is True
    assert life.ask("leaking", inTransaction=0.0) is False
    orders = department_of("inc-2023-2156")
    assert isinstance(orders, LivingDepartment)
    orders.await_well(Stage(state_dir=folder, time_scale=3000, say=print))


def test_a_lost_primary_is_felt_led_to_its_replica_and_made_anew_by_healing(
    a_shop: Callable[..., Shop], folder: Path
) -> None:
    """Customers can't order until somebody promotes the replica; healing makes the database anew, with its standby."""
    a_shop()
    broken = command(folder, "break", "--wait", "database-primary-lost")
    assert broken.exit_code == 0, broken.output
    assert "customers fail now" in broken.output
    assert "it was so already" in command(folder, "break", "database-primary-lost").output
    shop, life = load(folder), Living(name="orders", state_dir=folder)
    written = life.ask("visits")
    rds = shop.client("rds")
    rds.promote_read_replica(DBInstanceIdentifier=orders_replica.REPLICA)
    assert wait_until(lambda: life.ask("failing") == 0, seconds=60, every=0.25)
    assert life.ask("visits") > written
    healed = command(folder, "heal", "all")
    assert healed.exit_code == 0, healed.output
    (found,) = rds.describe_db_instances()["DBInstances"]
    assert found["MultiAZ"], "with a standby, and without the replica"
    assert life.ask("lost") is False
    assert wait_until(lambda: life.ask("failing") == 0, seconds=60, every=0.25)


def test_a_fault_that_borrows_an_example_has_a_run_of_its_own(a_shop: Callable[..., Shop], folder: Path) -> None:
    """With its own name and ticket, so that both can be applied."""
    a_shop()
    assert command(folder, "break", "images-untagged").exit_code == 0
    run = yaml.safe_load((folder / "runs" / "images-untagged.yaml").read_text())
    assert run["metadata"] == {"name": "images-untagged", "namespace": "shopsmart-images"}
    assert run["spec"]["incident"]["ticket"] == FAULTS["images-untagged"].ticket
    known: Mapping[str, Broken] = FAULTS
    assert known["images-untagged"].ends == "Unresolved/NoFixApplies"
