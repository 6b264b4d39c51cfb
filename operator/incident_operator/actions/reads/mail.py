"""SES: what became of an account's mails. Counts alone: no address, no text, and nothing that a bounce says."""

from collections.abc import Mapping
from typing import Any

from .listed import ListedRead

#: A day of data points. SES answers two weeks of them, which are more than a rule can be given.
_NEWEST = 96


def _sent(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep the newest data points, newest first: SES promises no order. Shape: each counts a quarter of an hour."""
    points = sorted(answer["SendDataPoints"], key=lambda point: point["Timestamp"], reverse=True)
    return [
        {
            "Timestamp": point["Timestamp"],
            **{name: int(point[name]) for name in ("DeliveryAttempts", "Bounces", "Complaints", "Rejects")},
        }
        for point in points[:_NEWEST]
    ]


#: By service and operation, as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = {
    ("ses", "get_send_statistics"): ListedRead(permissions=("ses:GetSendStatistics",), project=_sent),
}
