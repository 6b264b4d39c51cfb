"""Make the tiers' network, and whoever changes it; once for an account."""

from .. import policies
from ..seed import people
from ..shop import Key, Shop
from .place import CACHE, WEB, Tiers

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
    return shop.with_keys({user: _key(shop, user, may) for user, may in _USERS.items()}), tiers


def _key(shop: Shop, user: str, statement: dict[str, object]) -> Key:
    iam = shop.client("iam")
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(policies.document(statement)))
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return Key(access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"])
