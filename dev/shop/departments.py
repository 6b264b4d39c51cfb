"""What commands can break: the birthday service, and departments that are made once a fault of theirs is broken."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from dev.processes import wait_until
from dev.stack import SHOP_NAMESPACE
from incident_operator.adapters.clock import Clock

from . import faults as birthday
from .alarm import wait_until_felt
from .department import FELT_SECONDS, Broken, Department, LivingDepartment, Stage, has_key
from .faults import ALL
from .front import faults as front
from .front import seed as front_seed
from .images import faults as images
from .images import grant as images_grant
from .images import seed as images_seed
from .images.traffic import Browsers
from .living import Life
from .network import faults as network
from .network import grant as network_grant
from .network import place as network_place
from .network import seed as network_seed
from .orders import faults as orders
from .orders import grant as orders_grant
from .orders.database import INSTANCE
from .orders.replica import REPLICA
from .partners import api as partners_api
from .partners import faults as partners
from .partners import front as partners_front
from .partners import grant as partners_grant
from .partners import seed as partners_seed
from .sessions import faults as sessions
from .sessions import grant as sessions_grant
from .sessions import place as sessions_place
from .sessions import seed as sessions_seed
from .shop import Shop, ShopError
from .storefront import faults as storefront
from .storefront import grant as storefront_grant
from .storefront import seed as storefront_seed

#: How long a machine of AWS's may take to begin. Seconds.
_SEED_SECONDS = 120.0
#: A page that takes so long is one that customers wait for. Seconds.
_SLOW_SECONDS = 1.0
#: Customers of the storefront a second, on most days.
_USUAL_RATE = 10
#: CloudTrail's events of a window are looked for from so long before the first of them.
_BEFORE = timedelta(minutes=1)
#: The fault that the access log tells of, and how far back it is asked for it: not for one that was healed long ago.
_API_KEY, _LOOK_BACK = "api-key-scraped", timedelta(minutes=10)
#: The fault after which nothing is left to be healed.
_PRIMARY_LOST = "database-primary-lost"


class Birthday(Department):
    """What `make up` makes, with the grant and the namespace of its own."""

    name, title, team = "birthday", "birthday service", "birthday"
    faults = birthday.FAULTS

    @property
    def namespace(self) -> str:
        """The stack's own."""
        return SHOP_NAMESPACE

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Always: the stack's seed made it."""
        return True

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Return the shop."""
        return shop

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """None: the stack applied it."""
        return []

    def manifests(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """None, nor a namespace."""
        return []

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """As the alarm sees it."""
        return wait_until_felt(shop, time_scale=stage.time_scale, seconds=seconds)


class Images(Department):
    """The product images: a bucket, and the policy that lets browsers read it."""

    name, title, team = "images", "product images", "images"
    faults = images.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether the media team has its key."""
        return has_key(shop, images_seed.MEDIA)

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make the bucket, the images and their team."""
        return images_seed.seed(shop, stage.state_dir)

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant."""
        return [images_grant.grant(shop.account)]

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """A browser gets no picture."""
        browsers = Browsers(shop=shop)
        return wait_until(lambda: browsers.get(images_seed.PRODUCTS[0]) == 403, seconds=seconds)


class Partners(Department):
    """What partners are given: a key of a user and one of an API; either can leak."""

    name, title, team = "partners", "partners' keys", "security"
    seen = "what was done with the key can be read now"
    unseen = "what was done with the key can't be read yet: a run that starts now may find no evidence"
    faults = partners.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether the partner has its keys, in use or not."""
        return has_key(shop, partners_seed.PARTNER) and partners_api.FEED in shop.keys

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make the partner, its keys, the API and the bucket for evidence."""
        return partners_api.seed(partners_seed.seed(shop, stage.state_dir), stage.state_dir)

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant."""
        return [partners_grant.grant(shop.account)]

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """Nobody feels it; CloudTrail, or the access log, tells of it some time later."""
        trail = shop.client("cloudtrail")
        if name == _API_KEY:
            since = Clock().now() - _BEFORE
            return wait_until(lambda: _scraped_at(shop, since) != [], seconds=seconds, every=0.5)
        about = [{"AttributeKey": "Username", "AttributeValue": partners_seed.PARTNER}]

        def told() -> bool:
            return "CreateAccessKey" in {e["EventName"] for e in trail.lookup_events(LookupAttributes=about)["Events"]}

        return wait_until(told, seconds=seconds, every=0.5)

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """The key, the window around what was done with it, and the account's own bucket."""
        if name == _API_KEY:
            now = Clock().now()
            key = {"apiKeyId": shop.keys[partners_api.FEED].access_key_id}
            return {**key, **_window(_scraped_at(shop, now - _LOOK_BACK), now, shop)}
        own = shop.keys[partners_seed.PARTNER].access_key_id
        found = shop.client("iam").list_access_keys(UserName=partners_seed.PARTNER)["AccessKeyMetadata"]
        made: list[datetime] = [key["CreateDate"] for key in found if key["AccessKeyId"] != own]
        return {"accessKeyId": own, **_window(made, Clock().now(), shop)}


class Front(LivingDepartment):
    """The partners' web front: a load balancer behind a web ACL, and partners who come all the time."""

    name, title, team = "front", "partners' web front", "security"
    seen = "WAF counts who comes too often now"
    unseen = "WAF counts nobody yet: a run that starts now may find nobody"
    lives = "its server and its partners"
    faults = front.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether the dead key is there, and the front lives."""
        return has_key(shop, front_seed.FORMER) and self.life(stage).is_alive(shop)

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make the partner that left, its dead key and the bucket for evidence; the process makes the rest."""
        return front_seed.seed(shop, stage.state_dir)

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant, which is that of the partners' keys."""
        return [partners_grant.grant(shop.account)]

    def break_(self, stage: Stage, shop: Shop, name: str) -> bool:
        """Break it, where it lives."""
        return self.faults[name].break_(self.life(stage).ask)

    def heal(self, stage: Stage, shop: Shop, names: Iterable[str]) -> None:
        """Let nobody scrape, and make the web ACL what it was."""
        for name in names:
            self.faults[name].heal(self.life(stage).ask)

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """No partner feels it; WAF counts it, and CloudTrail tells of the key's last call."""
        return wait_until(
            lambda: partners_front.is_counted(shop) and _last_calls(shop) != [], seconds=seconds, every=0.5
        )

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """The dead key, the window around its last call, and the account's own bucket."""
        return {
            "accessKeyId": shop.keys[front_seed.FORMER].access_key_id,
            **_window(_last_calls(shop), Clock().now(), shop),
        }


def _last_calls(shop: Shop) -> list[datetime]:
    """Return when the dead key was used lately, as CloudTrail tells it."""
    about = [{"AttributeKey": "Username", "AttributeValue": front_seed.FORMER}]
    since = Clock().now() - _LOOK_BACK
    found = shop.client("cloudtrail").lookup_events(LookupAttributes=about, StartTime=since)["Events"]
    return [event["EventTime"] for event in found]


def _scraped_at(shop: Shop, since: datetime) -> list[datetime]:
    return partners_api.scraped_at(shop, partners_seed.SCRAPER, since)


def _window(seen: Iterable[datetime], now: datetime, shop: Shop) -> dict[str, Any]:
    """Return the window from a while before the first of these, and where its evidence is written."""
    return {
        "windowStart": f"{min([*seen, now]) - _BEFORE:%Y-%m-%dT%H:%M:%SZ}",
        "windowEnd": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "evidenceBucket": partners_seed.evidence_bucket(shop),
    }


class Storefront(LivingDepartment):
    """The web tier: instances of a group behind a load balancer."""

    name, title, team = "storefront", "storefront", "web"
    seen = "customers fail or wait now"
    lives = "its customers"
    faults = storefront.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether its people and its group are there."""
        return has_key(shop, "web-sre") and storefront_seed.group_of(shop) is not None

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make load balancer, group and instances, until all are healthy."""
        stage.say("  starting two web servers behind a load balancer, until they are healthy")
        return storefront_seed.seed(shop, stage.state_dir, time_scale=stage.time_scale, seconds=_SEED_SECONDS)

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant."""
        return [storefront_grant.grant(shop.account)]

    def break_(self, stage: Stage, shop: Shop, name: str) -> bool:
        """Break it, with the load that a silent metric is a fault under."""
        done = super().break_(stage, shop, name)
        if name == "inc-2023-2890":
            if done:
                stage.say("  deploying it to one instance after the other")
                if not wait_until(lambda: _is_deployed(shop), seconds=_SEED_SECONDS, every=0.25):
                    raise ShopError(f"the storefront's deploy has not ended after {_SEED_SECONDS:.0f} s")
            stage.say(f"  {storefront.HEAVY_RATE} customers come a second: more than two instances can serve")
            self.life(stage).ask("rate", perSecond=storefront.HEAVY_RATE)
        return done

    def heal(self, stage: Stage, shop: Shop, names: Iterable[str]) -> None:
        """Let as few customers come as before, then make the instances what they were."""
        if self.life(stage).is_alive(shop):
            self.life(stage).ask("rate", perSecond=_USUAL_RATE)
        super().heal(stage, shop, names)

    def felt(self, stage: Stage, shop: Shop, name: str, seconds: float = FELT_SECONDS) -> bool:
        """Customers get errors, or wait."""

        def is_felt() -> bool:
            felt = self.life(stage).ask("felt")
            return bool(felt["error_rate"] > 0.1 or felt["median"] > _SLOW_SECONDS)

        return wait_until(is_felt, seconds=seconds, every=0.25)


def _is_deployed(shop: Shop) -> bool:
    refreshes = shop.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=storefront_seed.GROUP)
    return refreshes["InstanceRefreshes"][0]["Status"] == "Successful" and storefront_seed.is_well(shop)


class Orders(LivingDepartment):
    """The orders: a PostgreSQL, and web hosts that ask it."""

    name, title, team = "orders", "orders", "orders"
    lives = "a PostgreSQL with 400,000 rows, three web hosts and their customers (about 10 s)"
    faults = orders.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether the database runs: without its process there is nothing."""
        known = shop.client("rds").describe_db_instances()["DBInstances"]
        there = INSTANCE in {found["DBInstanceIdentifier"] for found in known}
        return there and self.life(stage).is_alive(shop)

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Forget a database that is gone, and its replica; the process makes its own known to RDS."""
        rds = shop.client("rds")
        for name in (REPLICA, INSTANCE):
            with contextlib.suppress(rds.exceptions.DBInstanceNotFoundFault):
                rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        return shop

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant and the Secrets of three roles."""
        base, application = orders_grant.reached(self.life(stage).told())
        made = orders_grant.grant(shop.account, self.team, "orders-database", base, application)
        return [made, *orders_grant.secrets(self.namespace, base, application)]

    def break_(self, stage: Stage, shop: Shop, name: str) -> bool:
        """Break it, where hosts and database live."""
        return self.faults[name].break_(self.life(stage).ask)

    def heal(self, stage: Stage, shop: Shop, names: Iterable[str]) -> None:
        """Give back what was leaked, and build the index anew; a database that is lost is made anew, whole."""
        life = self.life(stage)
        if life.ask("lost"):
            if _PRIMARY_LOST not in names:
                raise ShopError(f"the database is gone: only healing {_PRIMARY_LOST}, or all, makes it anew")
            life.end()
            self.begin(stage, self.seed(stage, shop))
            return
        for name in names:
            self.faults[name].heal(life.ask)

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """What a fault's own run says besides."""
        return dict(self.faults[name].parameters)


class Sessions(LivingDepartment):
    """The sessions: a cache that fails over, and hosts that keep sessions in it."""

    name, title, team = "sessions", "sessions", "sessions"
    lives = "four hosts that keep sessions in it, and their customers"
    faults = sessions.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether its people and its cache are there."""
        if not has_key(shop, "cache-admin"):
            return False
        found = shop.client("elasticache").describe_replication_groups()["ReplicationGroups"]
        return sessions_place.GROUP in {group["ReplicationGroupId"] for group in found}

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make the cache, and wait until it is available."""
        stage.say("  starting a cache with a primary and a replica")
        seeded = sessions_seed.seed(shop)
        seeded.save(stage.state_dir)
        return seeded

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant and the Secrets of endpoint and nodes."""
        made = sessions_grant.grant(shop.account, self.team, "sessions-cache")
        return [made, *sessions_grant.connections(shop, self.namespace)]

    def heal(self, stage: Stage, shop: Shop, names: Iterable[str]) -> None:
        """Make the cache what it was, then recycle the hosts: some cling to a node that is a replica again."""
        super().heal(stage, shop, names)
        if self.life(stage).is_alive(shop):
            self.life(stage).ask("recycle")

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """The hosts' own addresses."""
        return {"hosts": [sessions_place.hosts_network()]}


class Network(LivingDepartment):
    """The network between the tiers, and web servers that reach the cache over it."""

    name, title, team = "network", "network", "network"
    lives = "web servers that reach the cache over it"
    faults = network.FAULTS

    def is_seeded(self, stage: Stage, shop: Shop) -> bool:
        """Tell whether its people and its tiers are there."""
        return has_key(shop, "network-deployer") and network_place.known_tiers(shop) is not None

    def seed(self, stage: Stage, shop: Shop) -> Shop:
        """Make the tiers and the rule between them."""
        seeded, _ = network_seed.seed(shop)
        seeded.save(stage.state_dir)
        return seeded

    def grants(self, stage: Stage, shop: Shop) -> list[dict[str, Any]]:
        """The grant, which calls the way between the tiers restorable."""
        tiers = network_place.tiers_of(shop)
        return [network_grant.grant(shop.account, self.team, "network-paths", tiers)]

    def parameters(self, stage: Stage, shop: Shop, name: str) -> dict[str, Any]:
        """The VPC."""
        return {"vpcId": network_place.tiers_of(shop).vpc}


DEPARTMENTS: tuple[Department, ...] = (
    Birthday(),
    Storefront(),
    Orders(),
    Sessions(),
    Images(),
    Partners(),
    Front(),
    Network(),
)
#: Every fault that a command can break.
FAULTS: Mapping[str, Broken] = {name: fault for one in DEPARTMENTS for name, fault in one.faults.items()}


def department_of(name: str) -> Department:
    """Return whose fault it is. Errors: ShopError that lists the names."""
    for department in DEPARTMENTS:
        if name in department.faults:
            return department
    raise ShopError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")


def life_of(name: str) -> Callable[[Shop], AbstractContextManager[Life]]:
    """Return what makes a department's process. Errors: ShopError where it has none."""
    if not any(isinstance(one, LivingDepartment) and one.name == name for one in DEPARTMENTS):
        raise ShopError(f"nothing of {name!r} lives outside AWS")
    made: Callable[[Shop], AbstractContextManager[Life]] = import_module(f"dev.shop.{name}.life").life
    return made


def ready(department: Department, stage: Stage, shop: Shop) -> Shop:
    """Make a department that is not there, and let live what lives outside AWS; return the shop with its keys."""
    fresh = not department.is_seeded(stage, shop)
    if fresh:
        stage.say(f"making the {department.title}, once:")
        shop = department.seed(stage, shop)
    if isinstance(department, LivingDepartment):
        department.begin(stage, shop)
    return shop


def heal(stage: Stage, shop: Shop, name: str) -> list[str]:
    """Make what a fault (or `all`) rests on what it was; return the departments that were there to be healed.

    What is not seeded has nothing broken. Errors: ShopError that lists the names.
    """
    healed = []
    for department in DEPARTMENTS if name == ALL else (department_of(name),):
        if department.is_seeded(stage, shop):
            stage.say(f"healing the {department.title}")
            department.heal(stage, shop, department.faults if name == ALL else [name])
            healed.append(department.title)
    return healed
