"""What a node-hour costs: the setting, and the price from the dated book."""

from __future__ import annotations

from dataclasses import dataclass

from fct_ray.cli.price_book import load_price_book
from fct_ray.plan.cost import usd_per_node_hour
from fct_ray.report.content import Pricing
from fct_ray.settings import CheckedSettings


@dataclass(frozen=True, kw_only=True)
class PricingSettings(CheckedSettings):
    """What node-hours cost."""

    node_type: str = "m7i.large"
    """Node type of the price book whose price node-seconds are multiplied with (wherever the work really ran)."""
    spot: bool = False
    """Use the spot price."""
    price_book: str | None = None
    """A price book (YAML). None: the dated one that comes with this package, cluster/prices.yaml."""


def pricing_of(settings: PricingSettings) -> Pricing:
    """The price of a node-hour, with the date of the book; SettingsError for an unknown node type."""
    book = load_price_book(settings.price_book)
    return Pricing(
        node_type=settings.node_type,
        usd_per_node_hour=usd_per_node_hour(settings.node_type, book, spot=settings.spot),
        spot=settings.spot,
        book_date=book.date,
        region=book.region,
        vcpus=book.node_types[settings.node_type].vcpus,
        gpus=book.node_types[settings.node_type].gpus,
    )
