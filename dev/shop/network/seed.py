"""Make the tiers' network, whoever changes it, and what lets the operator probe from it, once for an account."""

import json

from botocore.exceptions import ClientError

from incident_operator.actions.vantage import CONTENT, DOCUMENT

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
    """Make VPC, subnets, groups, a web server, the cache's interface, and the rule between; return shop and tiers."""
    people(shop)
    probe_document(shop)
    for user, may in _USERS.items():
        _user(shop, user, may)
    seeded = shop.with_keys({user: key_of(shop, user, user) for user in _USERS})
    return seeded, known_tiers(seeded) or _made(seeded)


def _made(shop: Shop) -> Tiers:
    profile = _managed(shop)
    ec2 = shop.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=_CIDR)["Vpc"]["VpcId"]
    subnets, groups, addresses = {}, {}, {}
    for tier, cidr in _SUBNETS.items():
        subnets[tier] = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
        groups[tier] = ec2.create_security_group(GroupName=tier, Description=tier, VpcId=vpc)["GroupId"]
    made = ec2.create_network_interface(SubnetId=subnets[CACHE], Groups=[groups[CACHE]])["NetworkInterface"]
    addresses[CACHE] = made["PrivateIpAddress"]
    (server,) = ec2.run_instances(
        ImageId="ami-12c6146b",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnets[WEB],
        SecurityGroupIds=[groups[WEB]],
        IamInstanceProfile={"Name": profile},
    )["Instances"]
    addresses[WEB] = server["PrivateIpAddress"]
    tiers = Tiers(vpc=vpc, groups=groups, subnets=subnets, addresses=addresses, server=server["InstanceId"])
    ec2.authorize_security_group_ingress(GroupId=groups[CACHE], IpPermissions=[tiers.rule])
    return tiers


def probe_document(shop: Shop) -> None:
    """The operator's probe document, as a platform admin makes it; once for an account."""
    ssm = shop.client("ssm")
    try:
        ssm.create_document(Name=DOCUMENT, Content=json.dumps(CONTENT), DocumentType="Command", DocumentFormat="JSON")
    except ClientError as error:
        if error.response["Error"]["Code"] != "DocumentAlreadyExists":
            raise


def _managed(shop: Shop) -> str:
    """An instance profile whose role lets the agent of SSM report; returned by name."""
    iam, name = shop.client("iam"), "web-server"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=policies.text(policies.trust(service="ec2.amazonaws.com")))
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return name


def _user(shop: Shop, user: str, statement: dict[str, object]) -> None:
    iam = shop.client("iam")
    try:
        iam.create_user(UserName=user)
    except ClientError as error:
        absent(error, "EntityAlreadyExists")
    iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=policies.text(policies.document(statement)))
