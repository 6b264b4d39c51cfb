"""E-mail over SMTP. Each recipient is answered for: who was refused is told, and the others have it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import aiosmtplib

from ...api.escalation import Channel
from ...core import notice as render
from ...core.notice import Notice, is_address
from .delivery import Delivery, Reason, State, Undeliverable, delivered, failed, retry
from .place import tls, trouble
from .sending import Sending

REQUIRED = frozenset({"host", "from"})
OPTIONAL = frozenset({"port", "user", "password", "tls", "ca.crt"})
_GOODBYE_SECONDS = 1.0
#: How the connection is protected → the port where none is given.
_PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, kw_only=True)
class _Server:
    """A mail server, and how to speak to it: starttls, tls or none."""

    host: str
    port: int
    mode: str
    tls: ssl.SSLContext | None


async def deliver(notice: Notice, channel: Channel, credential: Mapping[str, str], sending: Sending) -> Delivery:
    """Send one message to all recipients whose address is one. Errors: Undeliverable."""
    sender = credential["from"]
    if not is_address(sender):
        raise Undeliverable(failed(Reason.ADDRESS_INVALID, "the Secret's from is no e-mail address"))
    valid = tuple(address for address in notice.recipients if is_address(address))
    invalid = tuple(address for address in notice.recipients if not is_address(address))
    if not valid:
        delivery = failed(Reason.ADDRESS_INVALID, "no recipient has an e-mail address that can be written to")
        raise Undeliverable(replace(delivery, refused=invalid))
    message = render.email(replace(notice, recipients=valid), sender=sender, at=sending.now)
    place = f"the mail server {credential['host']}"
    try:
        errors = await _send(message.as_bytes(), sender, valid, credential, sending)
    except aiosmtplib.SMTPRecipientsRefused as refused:
        errors = {error.recipient: error.code for error in refused.recipients}
    except aiosmtplib.SMTPAuthenticationError as error:
        again = error.code < 500
        raise Undeliverable(
            retry(Reason.SERVER_ERROR, f"{place} answers {error.code}")
            if again
            else failed(Reason.UNAUTHORIZED, f"{place} does not take the user and the password")
        ) from None
    except aiosmtplib.SMTPResponseException as error:
        raise Undeliverable(_refusal(error.code, place)) from None
    except (aiosmtplib.SMTPException, TimeoutError, OSError) as error:
        raise Undeliverable(trouble(_cause(error), place)) from None
    return _judged(errors, valid, invalid, render.message_id(notice, sender))


async def _send(
    message: bytes, sender: str, recipients: tuple[str, ...], credential: Mapping[str, str], sending: Sending
) -> dict[str, int]:
    """Send; return the recipients that were refused, with the server's codes."""
    server = _server(credential)
    addresses = await sending.places.of(server.host, server.port)
    client = await _connected(server, addresses, timeout=sending.timeout)
    try:
        await _introduced(client, server.mode, credential)
        errors, _ = await client.sendmail(sender, recipients, message)
        # What was accepted is accepted, however the server takes its leave.
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=_GOODBYE_SECONDS)
    finally:
        client.close()
    return {recipient: response.code for recipient, response in errors.items()}


async def _connected(server: _Server, addresses: list[str], *, timeout: timedelta) -> aiosmtplib.SMTP:
    """Return a client of the server, connected to an address that was admitted. Errors: OSError, SMTPException."""
    connection = await _first_that_answers(addresses, server.port)
    try:
        client = aiosmtplib.SMTP(
            hostname=server.host,
            sock=connection,
            use_tls=server.mode == "tls",
            start_tls=False,
            tls_context=server.tls,
            local_hostname="incident-operator",
            timeout=timeout.total_seconds(),
        )
        await client.connect()
    except BaseException:
        connection.close()
        raise
    return client


async def _first_that_answers(addresses: list[str], port: int) -> socket.socket:
    """Return a connection to the first address that takes one. Errors: the last one's OSError."""
    refused = OSError("no address")
    for address in addresses:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except OSError as error:
            connection.close()
            refused = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise refused


async def _introduced(client: aiosmtplib.SMTP, mode: str, credential: Mapping[str, str]) -> None:
    """Go over to TLS and log in, as the Secret says; never on without what it asks for. Errors: Undeliverable."""
    await client.ehlo()
    if mode == "starttls":
        if not client.supports_extension("starttls"):
            raise Undeliverable(failed(Reason.TLS_FAILED, "the mail server does not offer STARTTLS"))
        await client.starttls()
        await client.ehlo()
    if "user" in credential:
        if not client.supports_extension("auth"):
            raise Undeliverable(failed(Reason.UNAUTHORIZED, "the mail server takes no user and password"))
        await client.login(credential["user"], credential.get("password", ""))


def _server(credential: Mapping[str, str]) -> _Server:
    """Return the server that a credential names. Errors: Undeliverable CredentialInvalid."""
    mode = credential.get("tls", "starttls")
    if mode not in _PORTS:
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, "tls must be starttls, tls or none"))
    port = credential.get("port", str(_PORTS[mode]))
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Undeliverable(failed(Reason.CREDENTIAL_INVALID, "port must be a number up to 65535"))
    context = None if mode == "none" else tls(credential.get("ca.crt"))
    return _Server(host=credential["host"], port=int(port), mode=mode, tls=context)


def _judged(errors: Mapping[str, int], valid: tuple[str, ...], invalid: tuple[str, ...], reference: str) -> Delivery:
    """Return what became of a message whose recipients were answered for one by one."""
    later = tuple(address for address in valid if address in errors and errors[address] < 500)
    never = tuple(address for address in valid if address in errors and errors[address] >= 500)
    if later:
        # A retry names these alone; who was refused for good is among them, so that its answer tells them, too.
        message = f"{len(later)} of {len(valid)} recipients are to be tried again"
        refused = (*later, *never, *invalid)
        return replace(retry(Reason.RECIPIENTS_DEFERRED, message), refused=refused, reference=reference)
    if len(never) == len(valid):
        return replace(failed(Reason.RECIPIENTS_REFUSED), refused=(*never, *invalid))
    if never or invalid:
        reason = Reason.SOME_RECIPIENTS_REFUSED
        return Delivery(state=State.DELIVERED, reason=reason, reference=reference, refused=(*never, *invalid))
    return delivered(reference=reference)


def _refusal(code: int, place: str) -> Delivery:
    says = f"{place} answers {code}"
    if code < 500:
        # 4xx, or none of SMTP's: what is no answer is no refusal.
        return retry(Reason.SERVER_ERROR, says)
    return failed(Reason.UNAUTHORIZED if code in (530, 534, 535) else Reason.REJECTED, says)


def _cause(error: Any) -> Exception:
    """Return what is behind an error of the client, so that it is told apart as one of HTTP is."""
    found: Any = error
    while isinstance(found, aiosmtplib.SMTPException) and not isinstance(found, TimeoutError):
        if found.__cause__ is None:
            break
        found = found.__cause__
    return found if isinstance(found, Exception) else Exception()
