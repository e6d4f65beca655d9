"""Damaged settings files and price books: the settings of a job come out, or a refusal that names the file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.cli.command_line import parse_settings
from fct_ray.cli.price_book import default_price_book_path, load_price_book
from fct_ray.errors import SettingsError
from tests.fuzz.damage import STRANGE, budget, damaged
from tests.fuzz.outcome import refusal

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "upgrade": importlib.import_module("fct_ray.cli.commands.upgrade").Settings,
    "search": importlib.import_module("fct_ray.cli.commands.search").Settings,
}
CONFIG = (ROOT / "jobs/kanji.yaml").read_bytes() + b"store: s3://bucket/gallery\nseed: 3\nfit: {inner: 64}\n"
WORDS = ("store", "encoder", "seed", "fit.inner", "fit", "inner", "help", "config", "metric", "cluster", "--", "k", "")
YAML_BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def settle(job: str, text: bytes, path: Path) -> None:
    """The settings are taken, or refused with exit code 2, or with an error that names the file or the setting."""
    path.write_bytes(text)
    try:
        message = refusal(parse_settings, SETTINGS[job], ["--config", str(path)], None)
    except SystemExit as end:
        message = f"--: exit code {end.code}"
        assert end.code == 2  # noqa: PT017 (not a test of the exception: it is one of the two ways to refuse)
    assert not message or str(path) in message or message.startswith("--")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the settings are written."""
    return tmp_path_factory.mktemp("config") / "settings.yaml"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("job", SETTINGS)
@budget(25)
@given(text=damaged(CONFIG))
def test_a_damaged_settings_file_is_taken_or_refused(job: str, file: Path, text: bytes) -> None:
    settle(job, text, file)


@pytest.mark.timeout(3600)
@budget(25)
@given(
    content=st.dictionaries(
        st.sampled_from(WORDS),
        st.recursive(
            st.sampled_from(STRANGE).filter(lambda value: value == value)
            | st.sampled_from(["-1", "--help", "&a x", "*a", "!!int ''", "2026-99-99", "!!python/object:os.system {}"]),
            lambda inner: st.dictionaries(st.sampled_from(WORDS), inner, max_size=3) | st.lists(inner, max_size=2),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_settings_of_any_shape_are_taken_or_refused(file: Path, content: dict[str, Any]) -> None:
    settle("upgrade", _yaml(content).encode("utf-8", "surrogatepass"), file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (YAML_BOMB, "line 2: found an alias"),
        ("a: &a {b: *a}", "found an alias"),
        ("[" * 5000, "not YAML"),
        ("store: 2026-99-99", "not YAML"),
        ("store: !!python/object/apply:os.system ['true']", "not YAML"),
        ("store: !!int ''", "not YAML"),
        ("help: true", "not the name of a setting"),
        ("1: 2", "not a name"),
        ("store: [a, b]", "--store is a list"),
        ('store: "a\\0b"', "no name or path can have"),
        ("x" * 300_000, "more than 262,144 bytes"),
        ("- a", "holds list, wanted a mapping"),
    ],
)
def test_what_yaml_allows_and_settings_do_not_is_refused_by_name(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        parse_settings(SETTINGS["upgrade"], ["--config", str(file)], None)


def test_a_value_that_looks_like_an_option_stays_a_value(file: Path) -> None:
    file.write_text("store: --help\nencoder: -1\n")
    settings = parse_settings(SETTINGS["upgrade"], ["--config", str(file)], None)
    assert (settings.store, settings.encoder) == ("--help", "-1")


@pytest.mark.timeout(3600)
@budget(60)
@given(text=damaged(default_price_book_path().read_bytes()))
def test_a_damaged_price_book_is_read_or_refused(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    message = refusal(load_price_book, file)
    assert not message or "price" in message


@pytest.mark.parametrize(
    "price", [".nan", ".inf", "-1", "0", "'1'", "[1]", "{}", "1e400", "9" * 5000, "? [1]\n: 2", "2026-99-99"]
)
def test_a_price_that_is_none_is_refused(file: Path, price: str) -> None:
    text = default_price_book_path().read_text()
    file.write_text(text.replace("usd_per_hour: 0.1008", f"usd_per_hour: {price}", 1))
    with pytest.raises(SettingsError, match="price"):
        load_price_book(file)


def _yaml(content: Any) -> str:
    """YAML flow style without quotes, so that tags and anchors among the values mean something."""
    if isinstance(content, dict):
        return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in content.items()) + "}"
    if isinstance(content, list):
        return "[" + ", ".join(map(_yaml, content)) + "]"
    return str(content)[:5000] if not isinstance(content, int) or content < 2**64 else "9" * 400
