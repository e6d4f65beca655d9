"""Where a report lies, the price book it reckons with, and what it says of its machine."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

import fct_ray
from fct_ray.cli.price_book import default_price_book_path, load_price_book
from fct_ray.errors import SettingsError
from fct_ray.report.content import Report
from fct_ray.report.environment import describe_environment
from fct_ray.report.report_files import write_report
from tests.conftest import ROOT

BOOK = """
date: "2026-01-31"
currency: USD
region: here
source: by hand
node_types:
  box: {usd_per_hour: 2, vcpus: 4, memory_gib: 8, gpus: 0, spot_usd_per_hour: 1.5}
storage:
  disk: {usd_per_gb_month: 0.02, usd_per_1000_puts: 0.005, usd_per_1000_gets: 0.0004}
"""


def test_three_files_lie_side_by_side_and_the_json_is_written_last(report: Report) -> None:
    written: dict[str, bytes] = {}
    uri = write_report(report, "s3://bucket/reports/", written.__setitem__)
    assert uri == "s3://bucket/reports/report.json"
    assert [name.rpartition("/")[2] for name in written] == ["report.html", "report.md", "report.json"]
    assert all(written.values())


def test_a_price_book_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    book = load_price_book(tmp_path / "book.yaml")
    assert book.node_types["box"].usd_per_hour == 2
    assert book.storage["disk"].usd_per_gb_month == 0.02


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("spot_usd_per_hour", "spot_usd_per_houre", "unknown field node_types.box.spot_usd_per_houre"),
        ("region: here", "place: here", "unknown field place"),
        ("usd_per_hour: 2,", "", "node_types.box.usd_per_hour"),
        ("usd_per_hour: 2,", "usd_per_hour: free,", "node_types.box.usd_per_hour"),
        ("usd_per_hour: 2,", "usd_per_hour: 0,", "wanted more than zero"),
        ("currency: USD", "currency: EUR", "wanted USD"),
        ("node_types:\n  box:", "node_types: [\n  box:", "not YAML"),
    ],
)
def test_a_wrong_price_book_is_refused_with_its_field(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = tmp_path / "book.yaml"
    file.write_text(BOOK.replace(before, after))
    with pytest.raises(SettingsError, match=message):
        load_price_book(file)


def test_a_book_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text("- 1\n")
    with pytest.raises(SettingsError, match="holds list, wanted a mapping"):
        load_price_book(tmp_path / "book.yaml")


def test_the_package_brings_the_price_book_that_people_edit() -> None:
    assert default_price_book_path().read_bytes() == (ROOT / "cluster/prices.yaml").read_bytes()
    assert default_price_book_path().is_relative_to(Path(fct_ray.__file__).parent)


def test_the_environment_names_versions_and_size_but_not_who_or_where() -> None:
    environment = describe_environment(datetime(2026, 11, 21, 10, 0, tzinfo=UTC), ["numpy", "no-such-distribution"])
    assert environment.time == "2026-11-21T10:00:00+00:00"
    assert set(environment.versions) == {"python", "numpy"}
    assert "CPU cores" in environment.machine
    assert socket.gethostname() not in environment.machine
    assert getpass.getuser() not in environment.machine.split()
