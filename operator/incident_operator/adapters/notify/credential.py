"""A channel's Secret: host and credential together, read at the moment of use, kept nowhere."""

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta

from ...api.escalation import Channel
from ..connections import SECRET_TYPE
from ..kube import Forbidden, Kube, KubeError, NotFound
from .delivery import Delivery, Reason, failed, retry


async def credential_of(kube: Kube, namespace: str, channel: Channel) -> Mapping[str, str] | Delivery:
    """Return what a channel's Secret holds, decoded; or a delivery that says why not. `namespace` is the policy's."""
    if channel.secret_ref is None:
        return failed(Reason.CREDENTIAL_MISSING, f"channel {channel.name} has no secretRef")
    name = channel.secret_ref.name
    try:
        secret = await kube.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except Forbidden:
        message = (
            f"the operator may not read Secret {name}; a Role in namespace {namespace} must let it get secrets with "
            f"resourceNames [{name}] (docs/channels.md)"
        )
        return failed(Reason.ACCESS_DENIED, message)
    except NotFound:
        return failed(Reason.CREDENTIAL_MISSING, f"there is no Secret {name} in namespace {namespace}")
    except KubeError as error:
        pause = timedelta(seconds=error.retry_after) or None
        return retry(Reason.UNREACHABLE, f"the API server did not give Secret {name}", after=pause)
    if secret.get("type") != SECRET_TYPE:
        return failed(Reason.CREDENTIAL_INVALID, f"Secret {name} is not of type {SECRET_TYPE}")
    try:
        return {key: base64.b64decode(value).decode().strip() for key, value in (secret.get("data") or {}).items()}
    except (binascii.Error, UnicodeDecodeError):
        return failed(Reason.CREDENTIAL_INVALID, f"Secret {name}: a value is no text")
