"""SSM: a command is delivered later, to who has an agent, and meets what the instance's network lets it meet."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from incident_operator.actions.vantage import CONTENT, DOCUMENT, answered, heard

from .conftest import Account, allow, eventually

PORT = 6379
_AGENT = "ssm:UpdateInstanceInformation"


class Network:
    """Two tiers of a VPC: an instance with an agent, and an interface behind which a socket listens."""

    def __init__(self, account: Account, listens: str) -> None:
        self.account, self.ec2, self.ssm = account, account.client("ec2"), account.client("ssm")
        iam = account.client("iam")
        account.role("web", allow(_AGENT, "*"))
        iam.create_instance_profile(InstanceProfileName="web")
        iam.add_role_to_instance_profile(InstanceProfileName="web", RoleName="web")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.1.{n}.0/24")["Subnet"]["SubnetId"] for n in (1, 2)
        ]
        self.web, self.cache = (
            self.ec2.create_security_group(GroupName=n, Description=n, VpcId=self.vpc)["GroupId"]
            for n in ("web", "cache")
        )
        self.instance = self.launch(IamInstanceProfile={"Name": "web"})
        made = self.ec2.create_network_interface(SubnetId=self.subnets[1], Groups=[self.cache])["NetworkInterface"]
        self.host = str(made["PrivateIpAddress"])
        tag = {"Key": f"listens-{PORT}", "Value": listens}
        self.ec2.create_tags(Resources=[made["NetworkInterfaceId"]], Tags=[tag])
        self.document(DOCUMENT, CONTENT)
        self.let_in()

    def launch(self, **more: Any) -> str:
        """Start a web server."""
        found = self.ec2.run_instances(
            ImageId="ami-12c6146b", InstanceType="t3.micro", MinCount=1, MaxCount=1,
            SubnetId=self.subnets[0], SecurityGroupIds=[self.web], **more,
        )  # fmt: skip
        return str(found["Instances"][0]["InstanceId"])

    def document(self, name: str, content: Any) -> None:
        """Make a document."""
        self.ssm.create_document(Name=name, Content=json.dumps(content), DocumentType="Command", DocumentFormat="JSON")

    def let_in(self) -> None:
        """Let the web servers in to the cache."""
        pairs = [{"GroupId": self.web}]
        rule = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "UserIdGroupPairs": pairs}
        self.ec2.authorize_security_group_ingress(GroupId=self.cache, IpPermissions=[rule])

    def send(self, **changed: Any) -> Any:
        """Ask the web server to connect."""
        given = {
            "DocumentName": DOCUMENT,
            "InstanceIds": [self.instance],
            "Parameters": {"host": [self.host], "port": [str(PORT)], "seconds": ["5"]},
            **changed,
        }
        return self.ssm.send_command(**given)["Command"]

    def ended(self, command: str) -> Any:
        """Return the command once it has ended."""

        def look() -> Any:
            try:
                found = self.ssm.get_command_invocation(CommandId=command, InstanceId=self.instance)
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvocationDoesNotExist":
                    raise
                return None
            return None if found["Status"] in ("Pending", "InProgress") else found

        return eventually(look)

    def said(self, **changed: Any) -> Any:
        """Return what the document said."""
        return heard(self.ended(self.send(**changed)["CommandId"])["StandardOutputContent"])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def network(account: Account, listener: socket.socket) -> Network:
    """The tiers, whose way is open."""
    return Network(account, f"127.0.0.1:{listener.getsockname()[1]}")


def test_a_command_is_pending_first_and_says_later_what_it_met(network: Network, listener: socket.socket) -> None:
    """A real connection, made by the document's own script; a server that is gone refuses the next one.

    That an ACL denies another port is none of this one's.
    """
    _deny(network, False, first=22, last=22)
    sent = network.send()
    assert sent["Status"] == "Pending"
    found = network.ended(sent["CommandId"])
    assert (found["Status"], found["ResponseCode"], found["DocumentName"]) == ("Success", 0, DOCUMENT)
    assert heard(found["StandardOutputContent"]) == "Connected"
    listener.settimeout(10)
    listener.accept()[0].close()
    listener.close()
    assert network.said() == "Refused"


def test_a_path_is_asked_for_over_http_if_the_network_lets_it_through(
    network: Network, listener: socket.socket
) -> None:
    """A real GET of a real server, whose status is said, and nothing once no rule lets it in."""
    parameters = {"host": [network.host], "port": [str(PORT)], "seconds": ["5"], "path": ["/health"]}

    def serve() -> bytes:
        client, _ = listener.accept()
        with client:
            asked = client.recv(1024)
            client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nmy secret")
        return asked

    listener.settimeout(60)
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        found = network.ended(network.send(Parameters=parameters)["CommandId"])
        assert served.result().startswith(b"GET /health HTTP/1.1\r\n")
    assert answered(found["StandardOutputContent"]) == 503
    assert "secret" not in found["StandardOutputContent"]
    _take_rule(network)
    assert network.said(Parameters={**parameters, "seconds": ["1"]}) == "Timeout"


def _take_rule(network: Network) -> None:
    (group,) = network.ec2.describe_security_groups(GroupIds=[network.cache])["SecurityGroups"]
    network.ec2.revoke_security_group_ingress(GroupId=network.cache, IpPermissions=group["IpPermissions"])


def _take_egress(network: Network) -> None:
    (group,) = network.ec2.describe_security_groups(GroupIds=[network.web])["SecurityGroups"]
    network.ec2.revoke_security_group_egress(GroupId=network.web, IpPermissions=group["IpPermissionsEgress"])


def _deny(network: Network, egress: bool, **ports: int) -> None:
    filters = [{"Name": "association.subnet-id", "Values": [network.subnets[1]]}]
    (acl,) = network.ec2.describe_network_acls(Filters=filters)["NetworkAcls"]
    network.ec2.create_network_acl_entry(
        NetworkAclId=acl["NetworkAclId"], RuleNumber=1, Protocol="6", RuleAction="deny", Egress=egress,
        CidrBlock="10.1.1.0/24", PortRange={"From": ports["first"], "To": ports["last"]},
    )  # fmt: skip


_BLOCKS: dict[str, Callable[[Network], None]] = {
    "no rule lets it in": _take_rule,
    "no rule lets it out": _take_egress,
    "an ACL denies it": lambda network: _deny(network, False, first=PORT, last=PORT),
    "an ACL denies the answer": lambda network: _deny(network, True, first=1024, last=65535),
}


@pytest.mark.parametrize("block", _BLOCKS)
def test_what_the_network_does_not_let_through_gets_no_answer(network: Network, block: str) -> None:
    """Though the server is there."""
    _BLOCKS[block](network)
    assert network.said() == "Timeout"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"DocumentName": "AWS-RunShellScript"}, "InvalidDocument"),
        ({"DocumentName": "Another"}, "InvalidDocument"),
        ({"DocumentHash": "0" * 64, "DocumentHashType": "Sha256"}, "InvalidDocument"),
        ({"DocumentVersion": "2"}, "InvalidDocumentVersion"),
        ({"Parameters": {"host": ["a"], "port": ["1"]}}, "InvalidParameters"),
        ({"Parameters": {"host": ["a"], "port": ["1"], "seconds": ["5"], "commands": ["id"]}}, "InvalidParameters"),
        ({"Parameters": {"host": ["a;id"], "port": ["1"], "seconds": ["5"]}}, "InvalidParameters"),
        ({"Parameters": {"host": ["$(id)"], "port": ["1"], "seconds": ["5"]}}, "InvalidParameters"),
        ({"Parameters": {"host": ["a\nid"], "port": ["1"], "seconds": ["5"]}}, "InvalidParameters"),
        ({"Parameters": {"host": ["a"], "port": ["1'"], "seconds": ["5"]}}, "InvalidParameters"),
        (
            {"Parameters": {"host": ["a"], "port": ["1"], "seconds": ["5"], "path": ["/$(id)"]}},
            "InvalidParameters",
        ),
        ({"Parameters": {"host": ["a"], "port": ["1"], "seconds": ["5"], "path": [""]}}, "InvalidParameters"),
        ({"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceId"),
    ],
)
def test_any_other_document_parameter_or_instance_is_refused(
    network: Network, changed: dict[str, Any], code: str
) -> None:
    """Nothing is ever run of it."""
    network.document("Another", {**CONTENT, "description": "another"})
    with pytest.raises(ClientError) as refused:
        network.send(**changed)
    assert refused.value.response["Error"]["Code"] == code


def test_an_instance_without_an_agent_is_not_managed(network: Network) -> None:
    """It has no profile whose role lets an agent report."""
    bare = network.launch()
    found = network.ssm.describe_instance_information()["InstanceInformationList"]
    assert [one["InstanceId"] for one in found] == [network.instance]
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        network.send(InstanceIds=[bare])


def test_sending_needs_the_document_and_every_instance(network: Network) -> None:
    """One of them alone is not enough; nor does the right to send give that to read."""
    of = f"us-east-1:{network.account.id}"
    document, instance = f"arn:aws:ssm:{of}:document/{DOCUMENT}", f"arn:aws:ec2:{of}:instance/{network.instance}"
    role = network.account.role("prober", allow(["ssm:SendCommand"], "*"))
    for resources, may in (([document], False), ([instance], False), ([document, instance], True)):
        session = network.account.admin.assume(role, policy=allow("ssm:SendCommand", resources))
        network.ssm = session.client("ssm")
        if may:
            assert network.send()["Status"] == "Pending"
        else:
            with pytest.raises(ClientError, match="not authorized to perform: ssm:SendCommand"):
                network.send()
