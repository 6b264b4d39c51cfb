"""The process in which the partners' web front lives: its server, its partners, and who scrapes it."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dev.processes import wait_until

from ..living import Life
from ..partners import front
from ..partners.scraper import client_from
from ..partners.seed import SCRAPER
from ..shop import Shop, ShopError
from .seed import FORMER, key_dead

_SECONDS = 60.0
#: Requests by which the scraper is over the limit at once.
_MORE = 20


@contextlib.contextmanager
def life(shop: Shop) -> Iterator[Life]:
    """Serve the partners, who come all the time; somebody else comes once asked to."""
    with contextlib.ExitStack() as stacked:
        host = stacked.enter_context(front.served(shop))
        partners = stacked.enter_context(front.Clients(host=host, sources=front.PARTNERS))
        scraping = _Scraping(shop, host)
        stacked.callback(scraping.end)
        yield Life(
            answers={
                "scraped": lambda _: scraping.goes_on(),
                "scrape": scraping.begin,
                "leave": scraping.leave,
                "scraper": lambda _: front.get(host, front.SCRAPER),
                "served": lambda _: {str(status): times for status, times in partners.counts.items()},
                "failing": lambda _: float(front.get(host, front.PARTNERS[0]) != 200),
            }
        )


class _Scraping:
    """Who reads all customers, over and over."""

    def __init__(self, shop: Shop, host: str) -> None:
        self._shop, self._host = shop, host
        self._clients: front.Clients | None = None

    def goes_on(self) -> bool:
        """Tell whether somebody scrapes, and is let through."""
        return self._clients is not None and front.get(self._host, front.SCRAPER) == 200

    def begin(self, _: Mapping[str, Any]) -> bool:
        """Use the key until it is dead, then come without one. Errors: ShopError where nobody is let through."""
        self.leave({})
        key_dead(self._shop, dead=False)
        try:
            client_from(self._shop, "dynamodb", SCRAPER, FORMER).describe_table(TableName=self._shop.table)
        finally:
            key_dead(self._shop)
        came = [front.get(self._host, front.SCRAPER) for _ in range(front.LIMIT + _MORE)]
        if set(came) != {200}:
            raise ShopError("the web front lets nobody scrape it")
        self._clients = front.Clients(host=self._host, sources=(front.SCRAPER,)).__enter__()
        return True

    def leave(self, _: Mapping[str, Any]) -> bool:
        """End it, and make the web ACL what it was. Errors: ShopError where that takes too long."""
        self.end()
        front.wall(self._shop)
        if not wait_until(lambda: front.get(self._host, front.SCRAPER) == 200, seconds=_SECONDS, every=0.2):
            raise ShopError(f"the web front refuses everybody's requests after {_SECONDS:g} s")
        return True

    def end(self) -> None:
        """Let nobody scrape any more."""
        if self._clients is not None:
            self._clients.__exit__()
            self._clients = None
