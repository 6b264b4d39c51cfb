"""What can go wrong with partners' keys: done over the wire by who would do it."""

from collections.abc import Mapping

from ..faults import Fault
from ..shop import Shop
from . import seed
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
    )
}
