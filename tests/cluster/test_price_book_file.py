"""cluster/prices.yaml, read as reports read it."""

from __future__ import annotations

import datetime

import pytest

from fct_ray.cli.price_book import load_price_book
from fct_ray.errors import SettingsError
from fct_ray.plan.cost import cost_usd, storage_usd_per_month, usd_per_node_hour
from fct_ray.values import Usage


def test_the_book_is_dated_and_says_where_its_prices_come_from() -> None:
    book = load_price_book()
    assert datetime.date.fromisoformat(book.date) >= datetime.date(2026, 1, 1)
    assert book.region == "us-east-1"
    assert "typical" in book.source  # spot is a share, not a quotation


def test_an_hour_of_a_known_node_costs_its_list_price() -> None:
    book = load_price_book()
    assert cost_usd(Usage(node_s=3600.0), usd_per_node_hour("m7i.large", book)) == pytest.approx(0.1008)
    assert cost_usd(Usage(node_s=1800.0), usd_per_node_hour("m7i.4xlarge", book, spot=True)) == pytest.approx(0.2016)


def test_a_terabyte_month_of_standard_storage_costs_23_dollars() -> None:
    assert storage_usd_per_month(10**12, "s3-standard", load_price_book()) == pytest.approx(23.0)


def test_spot_is_never_dearer_than_on_demand() -> None:
    for name, node in load_price_book().node_types.items():
        assert node.spot_usd_per_hour is None or 0 < node.spot_usd_per_hour < node.usd_per_hour, name


def test_prices_within_a_family_grow_with_its_size() -> None:
    nodes = load_price_book().node_types
    per_vcpu = {name: nodes[name].usd_per_hour / nodes[name].vcpus for name in nodes if name.startswith("m7i.")}
    assert len(per_vcpu) == 4
    assert max(per_vcpu.values()) == pytest.approx(min(per_vcpu.values()))


def test_a_node_type_without_a_spot_share_is_refused_and_not_free() -> None:
    with pytest.raises(SettingsError, match=r"no spot price for node type 'p5\.48xlarge'"):
        usd_per_node_hour("p5.48xlarge", load_price_book(), spot=True)
