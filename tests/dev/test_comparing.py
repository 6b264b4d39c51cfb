"""Replays are judged by what differs between two dumps: a difference that is nobody's must be seen as one."""

import pytest

from tests.e2e.comparing import Path, differences, is_touched

GROUP = "arn:aws:autoscaling:eu-west-1:1:autoScalingGroup:uuid:autoScalingGroupName/web"
TARGETS = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/0123"
ROLE = "arn:aws:iam::1:role/service-role/mailer"
POLICY = "arn:aws:iam::1:policy/mailer"
ALIAS = "arn:aws:lambda:eu-west-1:1:function:mailer:LIVE"
OBJECT = "arn:aws:s3:::evidence/sec-1/events.jsonl"


def test_what_differs_is_said_to_the_leaf() -> None:
    """What is missing on either side, too; what is the same is not."""
    before = {"a": {"x": 1, "y": 2, "same": [1]}, "b": 1}
    after = {"a": {"x": 1, "z": 3, "same": [1]}, "b": 2}
    assert list(differences(before, after)) == [(("a", "y"), 2, "absent"), (("a", "z"), "absent", 3), (("b",), 1, 2)]


@pytest.mark.parametrize(
    ("path", "arn"),
    [
        (("autoScalingGroups", "eu-west-1/web", "min"), GROUP),
        (("targetGroups", "eu-west-1/web", "path"), TARGETS),
        (("roles", "mailer", "inline", "restored"), ROLE),
        (("policies", POLICY, "default"), POLICY),
        (("functions", "eu-west-1", "mailer", "aliases", "LIVE", "version"), ALIAS),
        (("buckets", "evidence", "objects", "sec-1/events.jsonl"), OBJECT),
    ],
)
def test_a_difference_is_of_the_resource_that_is_touched_and_of_no_other(path: Path, arn: str) -> None:
    """Not of one whose name begins alike, and not of another kind of the same name."""
    assert is_touched(path, [arn])
    assert not is_touched(path, [])
    assert not is_touched(path, [other for other in (GROUP, TARGETS, ROLE, POLICY, ALIAS, OBJECT) if other != arn])
    assert not is_touched(path, [arn.replace("web", "web-2").replace("mailer", "mailer-2").replace("evid", "x-evid")])
    assert not is_touched(path[:1], [arn]), "a part that appears or goes as a whole is nobody's"
