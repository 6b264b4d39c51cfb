"""Who found the partner's key: reads all customers, over and over, and looks around."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from ..shop import Shop
from .seed import PARTNER, SCRAPER


def client_from(shop: Shop, service: str, address: str, who: str = PARTNER) -> Any:
    """Return a client with a partner's key whose calls come from an address."""
    # Of its own: the shop's clients are shared, and these carry a header.
    client = Shop(account=shop.account, region=shop.region, endpoint=shop.endpoint, keys=shop.keys).client(service, who)

    def stand_for(request: Any, **_: Any) -> None:
        request.headers["X-Sim-Source-Address"] = address

    client.meta.events.register("before-send", stand_for)
    return client


@dataclass(kw_only=True)
class Scraper:
    """A steady stream of calls with the leaked key. Shape: `counts` by "ok" or the error's code."""

    shop: Shop
    address: str = SCRAPER
    rate: float = 4
    counts: Counter[str] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Scraper":
        """Start."""
        self._dynamodb = client_from(self.shop, "dynamodb", self.address)
        self._thread = threading.Thread(target=self._scrape, name="scraper", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the call in flight."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _scrape(self) -> None:
        while not self._stopped.wait(1 / self.rate):
            self.counts[self.once()] += 1

    def once(self) -> str:
        """Look at the table and read all customers; return "ok" or the error's code."""
        try:
            self._dynamodb.describe_table(TableName=self.shop.table)
            self._dynamodb.scan(TableName=self.shop.table)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "ok"

    def persist(self) -> None:
        """Make another key of the same user."""
        client_from(self.shop, "iam", self.address).create_access_key(UserName=PARTNER)
