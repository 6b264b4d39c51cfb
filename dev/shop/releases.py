"""The releases of the function: its code as zip files, and what a version is configured with."""

import base64
import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from .shop import Shop

HANDLER = Path(__file__).parent / "birthday/handler.py"
RUNTIME = "python3.11"
ENTRY = "handler.handle"
TIMEOUT_SECONDS = 3
MEMORY_MEGABYTES = 256
RESERVED_CONCURRENCY = 10
TEMPLATE_KEY = "templates/birthday.html"
#: The releases that are seeded: version 1 and version 2, which serves.
RELEASES = ("2023.1", "2023.2")
#: What a bad release gets wrong: it reads a member that no user has.
_WRONG = ('user["name"]["S"]', 'user["displayName"]["S"]')


@cache
def package(release: str, *, bad: bool = False) -> bytes:
    """Return a release's zip. Shape: the same bytes every time, so that its hash tells what is deployed."""
    source = HANDLER.read_text()
    if bad:
        source = source.replace(*_WRONG)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("handler.py", source), ("RELEASE", release + "\n")):
            archive.writestr(zipfile.ZipInfo(name, date_time=(2023, 1, 1, 0, 0, 0)), content)
    return written.getvalue()


def sha256(code: bytes) -> str:
    """Return a package's hash as Lambda writes it."""
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


def configuration(shop: Shop, *, timeout: int = TIMEOUT_SECONDS, pause_seconds: float = 0) -> dict[str, Any]:
    """Return a version's configuration. Units: seconds; `pause_seconds` is what the function waits before each mail."""
    environment = {
        "USERS_TABLE": shop.table,
        "TEMPLATE_BUCKET": shop.bucket,
        "TEMPLATE_KEY": TEMPLATE_KEY,
        "SENDER": shop.sender,
    }
    if pause_seconds:
        environment["PAUSE_SECONDS"] = f"{pause_seconds:g}"
    return {
        "Role": shop.role_arn,
        "Handler": ENTRY,
        "Runtime": RUNTIME,
        "Timeout": timeout,
        "MemorySize": MEMORY_MEGABYTES,
        "Environment": {"Variables": environment},
    }


def differs(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `wanted` that a function's configuration does not have."""
    return {name: value for name, value in wanted.items() if found.get(name) != value}
