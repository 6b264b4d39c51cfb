"""What can go wrong with the partners' web front: done by the process in which it lives (`dev.shop.front.life`)."""

from collections.abc import Mapping

from ..orders.faults import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="web-acl-scraper",
            title="whoever had a key that is dead by now reads all customers through the web front",
            ticket="SEC-2024-0158",
            actor="whoever had the key of user partner-former",
            example="web-acl-scraper.yaml",
            is_broken=lambda ask: bool(ask("scraped")),
            act=lambda ask: ask("scrape"),
            heal=lambda ask: ask("leave"),
            parameters={},
        ),
    )
}
