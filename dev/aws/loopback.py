"""The simulator speaks on loopback only: it stands for an account with everything allowed to its admin."""

import ipaddress


def check_loopback(host: str) -> None:
    """Let a loopback address pass. Errors: ValueError for any other, and for names."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the simulator speaks on loopback only: {host!r} is no loopback address, like 127.0.0.1")
