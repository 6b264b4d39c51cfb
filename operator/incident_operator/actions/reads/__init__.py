"""The read operations of the catalogue: what may be asked of AWS, and what of the answer is kept.

Anything not listed is refused by the reader. A projection keeps what decisions need and drops the rest, above all
credentials: no function code URL, no environment, no secret. Source: facts on AWS, section 4.
"""

from collections.abc import Mapping
from types import MappingProxyType

from . import access, cache, commands, databases, fleet, functions, gateway, mail, network, storage, telemetry, waf
from .listed import ListedRead, each, keep, policy_document

__all__ = ["READS", "ListedRead", "each", "keep", "list_reads", "permissions", "policy_document"]

_LISTED: dict[tuple[str, str], ListedRead] = {}
#: `(service, operation)` as boto3 spells them.
READS: Mapping[tuple[str, str], ListedRead] = MappingProxyType(_LISTED)


def list_reads(reads: Mapping[tuple[str, str], ListedRead]) -> None:
    """List reads. Errors: ValueError for one that is listed already: two projections of one answer would differ."""
    for service, operation in reads:
        if (service, operation) in _LISTED:
            raise ValueError(f"{service}.{operation} is listed already")
    _LISTED.update(reads)


def permissions() -> tuple[str, ...]:
    """Return every IAM action that observing may need: the session policy of the reading identity."""
    return tuple(sorted({p for read in READS.values() for p in read.permissions}))


#: One file for services that belong together; what a single action reads can be listed in its own file.
for _file in (access, cache, commands, databases, fleet, functions, gateway, mail, network, storage, telemetry, waf):
    list_reads(_file.READS)
