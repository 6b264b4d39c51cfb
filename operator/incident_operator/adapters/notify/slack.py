"""Slack's Web API: chat.postMessage, and chat.update of what was posted. Source: Slack's method reference.

An update is silent: nobody is notified of it. The caller chooses by `Notice.reference`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ...api.escalation import Channel
from ...core import notice as render
from ...core.notice import Notice
from .delivery import Delivery, Reason, Undeliverable, delivered, failed, retry
from .http import Answer, accepted
from .sending import Sending

REQUIRED = frozenset({"token"})
OPTIONAL = frozenset({"url", "channel", "ca.crt"})
_URL = "https://slack.com/api"
#: The channel's id, which an update needs, and the message's own.
_REFERENCE = re.compile(r"[A-Z0-9]{1,32}/[0-9]{1,16}\.[0-9]{1,16}")

_CREDENTIAL = frozenset(
    {
        *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "no_permission"),
        *("missing_scope", "not_allowed_token_type", "ekm_access_denied", "access_denied", "org_login_required"),
        *("not_in_channel", "restricted_action", "restricted_action_read_only_channel", "team_access_not_granted"),
    }
)
_NOT_THERE = frozenset({"channel_not_found", "is_archived"})
_COME_BACK = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"})
#: A message that can't be updated any more is posted anew: what it says must reach somebody.
_NOT_UPDATABLE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"})


async def deliver(notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending) -> Delivery:
    """Post or update a message. Errors: Undeliverable."""
    where = credential.get("channel") or channel.address
    if not where:
        raise Undeliverable(failed(Reason.ADDRESS_INVALID, "neither the channel nor its Secret names a Slack channel"))
    arguments = render.slack(notice)
    if notice.reference is not None and _REFERENCE.fullmatch(notice.reference):
        place, _, ts = notice.reference.partition("/")
        kept = {key: value for key, value in arguments.items() if not key.startswith("unfurl_")}
        answer = await _call("chat.update", {**kept, "channel": place, "ts": ts}, credential, sending)
        if answer.json().get("ok") is True:
            return delivered(Reason.UPDATED, reference=notice.reference)
        if _error(answer) not in _NOT_UPDATABLE:
            return _refusal(answer)
    answer = await _call("chat.postMessage", {**arguments, "channel": where}, credential, sending)
    said = answer.json()
    if said.get("ok") is not True:
        return _refusal(answer)
    reference = f"{said.get('channel')}/{said.get('ts')}"
    return delivered(reference=reference if _REFERENCE.fullmatch(reference) else None)


async def _call(method: str, arguments: Mapping[str, Any], credential: Mapping[str, str], sending: Sending) -> Answer:
    url = f"{credential.get('url', _URL).rstrip('/')}/{method}"
    headers = {
        "Authorization": f"Bearer {credential['token']}",
        "Content-Type": "application/json; charset=utf-8",
    }
    return accepted(await sending.http(url, json.dumps(arguments).encode(), headers, credential), "Slack")


def _error(answer: Answer) -> str:
    error = answer.json().get("error")
    return error if isinstance(error, str) else ""


def _refusal(answer: Answer) -> Delivery:
    """Return the delivery for an answer that is not ok. Of the provider's words only known tokens are told."""
    error = _error(answer)
    if error in _CREDENTIAL:
        return failed(Reason.UNAUTHORIZED, f"Slack answers {error}")
    if error in _NOT_THERE:
        return failed(Reason.NOT_FOUND, f"Slack answers {error}")
    if error in ("ratelimited", "rate_limited"):
        return retry(Reason.RATE_LIMITED, f"Slack answers {error}", after=answer.retry_after)
    if error in _COME_BACK:
        return retry(Reason.SERVER_ERROR, f"Slack answers {error}", after=answer.retry_after)
    if not error:
        # No answer of Slack's: what stands between may have answered in its place.
        return retry(Reason.SERVER_ERROR, "what answers is not Slack's API")
    return failed(Reason.REJECTED, "Slack does not take the message")
