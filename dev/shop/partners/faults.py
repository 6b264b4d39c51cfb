"""What can go wrong with partners' keys: done over the wire by who would do it."""

from collections.abc import Mapping

from ..faults import Fault
from ..shop import Shop, ShopError
from . import api, seed
from .scraper import Scraper

_SCRAPES = 5


def _is_known(shop: Shop) -> bool:
    return len(shop.client("iam").list_access_keys(UserName=seed.PARTNER)["AccessKeyMetadata"]) > 1


def _scrape(shop: Shop) -> None:
    """Read all customers a few times, and make another key to stay in."""
    with Scraper(shop=shop) as scraper:
        for _ in range(_SCRAPES):
            scraper.once()
        scraper.persist()


def _scrape_api(shop: Shop) -> None:
    """Read all customers a few times through the API, with a key that is another partner's. Errors: ShopError."""
    thief = api.Caller(shop=shop, who=api.FEED, address=seed.SCRAPER)
    for _ in range(_SCRAPES):
        status, _answer = thief.once()
        if status != 200:
            raise ShopError(f"the partners' API answers {status} to a key that is to be good")


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="sec-2023-0156",
            title="a partner's key leaked: somebody reads all customers with it, and made a second key",
            ticket="SEC-2023-0156",
            actor="whoever found the key of user partner-feed",
            example="security-incident.yaml",
            parts=(seed.key_active,),
            is_broken=_is_known,
            act=_scrape,
        ),
        Fault(
            name="api-key-scraped",
            title="a partner's API key leaked: somebody reads all customers with it",
            ticket="SEC-2024-0157",
            actor="whoever found the API key partner-feed-api",
            example="api-key-scraped.yaml",
            parts=(api.key_enabled,),
            # It leaves nothing but lines in the access log: breaking it again is more of them.
            is_broken=lambda shop: False,
            act=_scrape_api,
        ),
    )
}
