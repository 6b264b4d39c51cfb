"""Make a partner that left: a user whose key leaked and is dead already."""

from pathlib import Path

from .. import policies
from ..partners import seed as partners
from ..policies import allow, document
from ..seed import key_of, make_user
from ..shop import Shop

#: The user of the dead key.
FORMER = "partner-former"


def seed(shop: Shop, state_dir: Path) -> Shop:
    """Make all that is not there beside a seeded shop, write `shop.json`, return the shop with the dead key."""
    shop = partners.seed(shop, state_dir)
    make_user(shop, FORMER)
    looking = policies.text(document(allow("Look", ["dynamodb:DescribeTable"], shop.table_arn)))
    shop.client("iam").put_user_policy(UserName=FORMER, PolicyName="look", PolicyDocument=looking)
    seeded = shop.with_keys({FORMER: key_of(shop, FORMER, FORMER)})
    key_dead(seeded)
    seeded.save(state_dir)
    return seeded


def key_dead(shop: Shop, *, dead: bool = True) -> None:
    """Make the key of the partner that left inactive, or active."""
    status = "Inactive" if dead else "Active"
    key = shop.keys[FORMER].access_key_id
    shop.client("iam").update_access_key(UserName=FORMER, AccessKeyId=key, Status=status)
