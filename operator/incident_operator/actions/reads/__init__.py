"""The read operations of the catalogue: what may be asked of AWS, and what of the answer is kept.

Anything not listed is refused by the reader. A projection keeps what decisions need and drops the rest, above all
credentials: no function code URL, no environment, no secret. Source: facts on AWS, section 4.
"""

from collections.abc import Mapping

from . import access, cache, functions, network, storage, telemetry
from .listed import ListedRead, policy_document

__all__ = ["READS", "ListedRead", "permissions", "policy_document"]

#: `(service, operation)` as boto3 spells them; one file for services that belong together.
READS: Mapping[tuple[str, str], ListedRead] = {
    key: read for file in (access, cache, functions, network, storage, telemetry) for key, read in file.READS.items()
}


def permissions() -> tuple[str, ...]:
    """Return every IAM action that observing may need: the session policy of the reading identity."""
    return tuple(sorted({p for read in READS.values() for p in read.permissions}))
