"""Make the tiers' network, and whoever changes it; what is there is left as it is."""

from botocore.exceptions import ClientError

from .. import policies
from ..seed import absent, key_of, people
from ..shop import Shop
from .place import CACHE, WEB, Tiers, known_tiers

_CIDR = "10.20.0.0/16"
_SUBNETS = {WEB: "10.20.1.0/24", CACHE: "10.20.2.0/24"}
_RULES = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
_USERS = {
    "network-deployer": {"Effect": "Allow", "Action": _RULES, "Resource": "*"},
    "network-metrics": {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*"},
}


def seed(shop: Shop) -> tuple[Shop, Tiers]:
    """Make VPC, subnets, groups, one interface of each tier, and the rule between them; return shop and tiers."""
    people(shop)
    for user, may in _USERS.items():
        _user(shop, user, may)
    seeded = shop.with_keys({user: key_of(shop, user, user) for user in _USERS})
    return seeded, known_tiers(seeded) or _made(seeded)


def _made(shop: Shop) -> Tiers:
    ec2 = shop.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=_CIDR)["Vpc"]["VpcId"]
    subnets, groups, addresses = {}, {}, {}
    for tier, cidr in _SUBNETS.items():
        subnets[tier] = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
        groups[tier] = ec2.create_security_group(GroupName=tier, Description=tier, VpcId=vpc)["GroupId"]
        made = ec2.create_network_interface(SubnetId=subnets[tier], Groups=[groups[tier]])["NetworkInterface"]
        addresses[tier] = made["PrivateIpAddress"]
    tiers = Tiers(vpc=vpc, groups=groups, subnets=subnets, addresses=addresses)
    ec2.authorize_security_group_ingress(GroupId=groups[CACHE], IpPermissions=[tiers.rule])
    return tiers


def _user(shop: Shop, user: str, statement: dict[str, object]) -> None:
    iam = shop.client("iam")
    try:
        iam.create_user(UserName=user)
    except ClientError as error:
        absent(error, "EntityAlreadyExists")
    iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(policies.document(statement)))
