"""What can be broken in the shop: each fault is done over the wire by who would do it, and healed exactly.

A fault rests on parts of `seed`: healing it makes these parts what they were seeded as, whatever the fault, people or
a fix have made of them since.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import policies, releases, seed
from .shop import Shop, ShopError
from .traffic import CUSTOMERS

#: What `all` means to `heal`.
ALL = "all"
#: What a slow release waits before each mail, and the timeout that is too short for it: twice that is enough.
_SLOW_SECONDS = 1.1
_SHORT_TIMEOUT = 1
#: What a busy release waits, so that all customers overlap, and a reserve too small for them: twice that is enough.
_BUSY_SECONDS = 0.6
_SMALL_RESERVE = CUSTOMERS - 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Shape: `act` breaks a shop whose `parts` are as seeded; `is_broken` tells whether they are already as `act` leaves
    them; `example` is the run to apply; `actor` is who did it, for people to read; `ends` is how that run ends with
    this fault where the example is about another, "" where it says so itself.
    """

    name: str
    title: str
    ticket: str
    actor: str
    example: str
    parts: tuple[seed.Part, ...]
    is_broken: Callable[[Shop], bool]
    act: Callable[[Shop], None]
    ends: str = ""

    def break_(self, shop: Shop) -> bool:
        """Break the shop; False where it is broken in this way already."""
        if self.is_broken(shop):
            return False
        for part in self.parts:
            part(shop)
        self.act(shop)
        return True

    def heal(self, shop: Shop) -> None:
        """Make what this fault rests on what it was."""
        for part in self.parts:
            part(shop)


def named(name: str) -> Fault:
    """Return a fault by name. Errors: ShopError that lists the names."""
    if name not in FAULTS:
        raise ShopError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
    return FAULTS[name]


def heal_all(shop: Shop) -> None:
    """Make everything that any fault rests on what it was."""
    for part in dict.fromkeys(part for fault in FAULTS.values() for part in fault.parts):
        part(shop)


# --- access -----------------------------------------------------------------------------------------------------------


def _role_lost_table(shop: Shop) -> bool:
    iam = shop.client("iam")
    version = iam.get_policy(PolicyArn=shop.policy_arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=shop.policy_arn, VersionId=version)["PolicyVersion"]["Document"]
    found = policies.read(document) if isinstance(document, str) else document
    inline = iam.list_role_policies(RoleName=shop.role)["PolicyNames"]
    return bool(found == policies.service_access_without_table(shop)) and not inline


def _take_table_from_role(shop: Shop) -> None:
    document = policies.text(policies.service_access_without_table(shop))
    shop.client("iam", "deployer").create_policy_version(
        PolicyArn=shop.policy_arn, PolicyDocument=document, SetAsDefault=True
    )


def _bucket_fault(changed: Callable[[Shop], policies.Document]) -> dict[str, Any]:
    """Return what is the same for every change of the bucket's policy."""

    def is_broken(shop: Shop) -> bool:
        inline = shop.client("iam").list_role_policies(RoleName=shop.role)["PolicyNames"]
        return bool(seed.read_bucket_policy(shop) == changed(shop)) and not inline

    def act(shop: Shop) -> None:
        shop.client("s3", "sre").put_bucket_policy(Bucket=shop.bucket, Policy=policies.text(changed(shop)))

    return {"parts": (seed.bucket_policy, seed.service_policy), "is_broken": is_broken, "act": act}


def _table_lost_policy(shop: Shop) -> bool:
    inline = shop.client("iam").list_role_policies(RoleName=shop.role)["PolicyNames"]
    return seed.read_table_policy(shop) is None and not inline


def _audit_table(shop: Shop) -> None:
    dynamodb = shop.client_of_role("dynamodb", "SecurityAudit", "quarterly-audit")
    dynamodb.delete_resource_policy(ResourceArn=shop.table_arn)


def _both(*names: str) -> dict[str, Any]:
    """Return a fault of several."""

    def parts() -> list[Fault]:
        return [FAULTS[name] for name in names]

    def act(shop: Shop) -> None:
        for fault in parts():
            fault.act(shop)

    return {
        "parts": (seed.bucket_policy, seed.service_policy),
        "is_broken": lambda shop: all(fault.is_broken(shop) for fault in parts()),
        "act": act,
    }


# --- releases and limits ----------------------------------------------------------------------------------------------


def _live(shop: Shop) -> Mapping[str, Any]:
    found: Mapping[str, Any] = shop.client("lambda").get_function_configuration(
        FunctionName=shop.function, Qualifier=shop.alias
    )
    return found


def _release(shop: Shop, *, code: bytes | None = None, configuration: Mapping[str, Any] | None = None) -> None:
    """Release as the deployer does: change $LATEST, publish, move the alias."""
    client, name = shop.client("lambda", "deployer"), shop.function
    if code is not None:
        client.update_function_code(FunctionName=name, ZipFile=code)
    if configuration is not None:
        latest = client.get_function_configuration(FunctionName=name)
        client.update_function_configuration(FunctionName=name, **releases.differs(latest, dict(configuration)))
    version = client.publish_version(FunctionName=name)["Version"]
    client.update_alias(FunctionName=name, Name=shop.alias, FunctionVersion=version)


def _bad_release(shop: Shop) -> bytes:
    return releases.package(releases.RELEASES[-1], bad=True)


def _slow_release(shop: Shop) -> dict[str, Any]:
    return releases.configuration(shop, timeout=_SHORT_TIMEOUT, pause_seconds=_SLOW_SECONDS)


def _busy_release(shop: Shop) -> dict[str, Any]:
    return releases.configuration(shop, pause_seconds=_BUSY_SECONDS)


def _throttle(shop: Shop) -> None:
    _release(shop, configuration=_busy_release(shop))
    shop.client("lambda", "sre").put_function_concurrency(
        FunctionName=shop.function, ReservedConcurrentExecutions=_SMALL_RESERVE
    )


def _throttled(shop: Shop) -> bool:
    found = shop.client("lambda").get_function_concurrency(FunctionName=shop.function)
    slow = not releases.differs(dict(_live(shop)), _busy_release(shop))
    return slow and found.get("ReservedConcurrentExecutions") == _SMALL_RESERVE


# --- all of them ------------------------------------------------------------------------------------------------------

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="inc-2023-1247",
            title="the role lost DynamoDB: a new version of its policy leaves the table out",
            ticket="INC-2023-1247",
            actor="user deployer",
            example="incident-run.yaml",
            parts=(seed.service_policy,),
            is_broken=_role_lost_table,
            act=_take_table_from_role,
        ),
        Fault(
            name="inc-2023-0892",
            title="the bucket's policy lost the role: templates can't be read",
            ticket="INC-2023-0892",
            actor="user sre",
            example="bucket-policy.yaml",
            **_bucket_fault(policies.bucket_policy_without_role),
        ),
        Fault(
            name="lambda-explicit-deny",
            title="the bucket's policy denies the role in so many words",
            ticket="INC-2023-0892",
            actor="user sre",
            example="no-fix-applies.yaml",
            **_bucket_fault(policies.bucket_policy_denying),
        ),
        Fault(
            name="inc-2023-1456",
            title="an audit removed the table's policy: greeted users can't be marked",
            ticket="INC-2023-1456",
            actor="role SecurityAudit, which is protected",
            example="not-permitted.yaml",
            parts=(seed.table_policy, seed.service_policy),
            is_broken=_table_lost_policy,
            act=_audit_table,
        ),
        Fault(
            name="lambda-timeout",
            title="a release waits before each mail, longer than its timeout",
            ticket="INC-2024-0101",
            actor="user deployer",
            example="timeout.yaml",
            parts=(seed.function,),
            is_broken=lambda shop: not releases.differs(dict(_live(shop)), _slow_release(shop)),
            act=lambda shop: _release(shop, configuration=_slow_release(shop)),
        ),
        Fault(
            name="lambda-bad-deploy",
            title="a release fails on every user",
            ticket="INC-2024-0102",
            actor="user deployer",
            example="bad-deploy.yaml",
            parts=(seed.function,),
            is_broken=lambda shop: bool(_live(shop)["CodeSha256"] == releases.sha256(_bad_release(shop))),
            act=lambda shop: _release(shop, code=_bad_release(shop)),
        ),
        Fault(
            name="lambda-throttled",
            title="slower calls overlap, and the reserved concurrency is too small for them",
            ticket="INC-2024-0103",
            actor="users deployer and sre",
            example="throttled.yaml",
            parts=(seed.function, seed.concurrency),
            is_broken=_throttled,
            act=_throttle,
        ),
        Fault(
            name="two-causes",
            title="the role lost DynamoDB, and the bucket's policy lost the role",
            ticket="INC-2024-0104",
            actor="users deployer and sre",
            example="two-causes.yaml",
            **_both("inc-2023-1247", "inc-2023-0892"),
        ),
        Fault(
            name="lambda-healthy",
            title="nothing is wrong",
            ticket="INC-2024-0105",
            actor="nobody",
            example="nothing-found.yaml",
            parts=(),
            is_broken=lambda shop: False,
            act=lambda shop: None,
        ),
    )
}
