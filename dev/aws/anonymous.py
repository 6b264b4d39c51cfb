"""Requests that nobody signed: to a bucket, as browsers ask for its objects. What its policy gives to all decides.

Access control lists give nothing: buckets are owner-enforced, as AWS makes them.
"""

from .authorization import bucket_named
from .identity import Principal
from .wire import Call, Environ, Scope


def scope_of(environ: Environ) -> Scope | None:
    """Return what an unsigned request is for; None where its path begins with no bucket."""
    bucket = bucket_named(environ.get("PATH_INFO", "").lstrip("/").split("/", 1)[0])
    return Scope(access_key="", region=bucket.region_name, service="s3") if bucket is not None else None


def principal_of(call: Call) -> Principal | None:
    """Return who makes an unsigned call; None where what it is about is gone. Shape: the account is the owner's."""
    bucket = bucket_named(call.arguments.get("Bucket", ""))
    if bucket is None:
        return None
    return Principal(kind="Anonymous", account=bucket.account_id, arn="anonymous", name="anonymous")
