"""Every settings class refuses, when it is made, numbers with which no work could end well; the whole setting is named."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import fct_ray
from fct_ray.cli.command_line import parse_settings
from fct_ray.errors import SettingsError
from fct_ray.models.encoder_loop import EncoderFit
from fct_ray.settings import CheckedSettings
from fct_ray.workflows.upgrade.settings import GateSettings, UpgradeSettings

WITHOUT = ("fct_ray.bench.contenders", "fct_ray.bench.pipelines")  # may need packages that only `make bench` installs


def all_settings() -> list[type[CheckedSettings]]:
    """Every settings class of the package and of the jobs."""
    for module in pkgutil.walk_packages(fct_ray.__path__, "fct_ray."):
        if not module.name.startswith(WITHOUT):
            importlib.import_module(module.name)
    importlib.import_module("jobs.bench")
    found, waiting = set[type[CheckedSettings]](), [CheckedSettings]
    while waiting:
        children = waiting.pop().__subclasses__()
        found |= set(children)
        waiting += children
    return sorted(found, key=lambda one: (one.__module__, one.__qualname__))


def numeric_fields(settings_type: type[CheckedSettings]) -> Iterator[tuple[str, type]]:
    """(name, int or float) of every field that takes a number, or a tuple of numbers, or may do without one."""
    hints = typing.get_type_hints(settings_type)
    for field in dataclasses.fields(settings_type):  # type: ignore[arg-type]
        kinds = {int, float} & {hints[field.name], *typing.get_args(hints[field.name])}
        for kind in kinds:
            yield field.name, kind


def example(settings_type: type[Any], **changes: object) -> object:
    """A settings value: its defaults, text where there is none."""
    needed = [
        field.name
        for field in dataclasses.fields(settings_type)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return settings_type(**{**dict.fromkeys(needed, "x"), **changes})


def settings_types_of_fields(settings_type: type[Any]) -> Iterator[type[Any]]:
    """The dataclasses that a settings class contains."""
    for hint in typing.get_type_hints(settings_type).values():
        for part in (hint, *typing.get_args(hint)):
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                yield part


@pytest.mark.parametrize("settings_type", all_settings(), ids=lambda one: f"{one.__module__}.{one.__qualname__}")
def test_no_settings_class_takes_a_number_that_cannot_work(settings_type: type[CheckedSettings]) -> None:
    example(settings_type)
    for name, kind in numeric_fields(settings_type):
        for wrong in (-2, *((math.nan, math.inf, -0.5) if kind is float else (1.5, True))):
            value = (wrong,) if "tuple" in str(typing.get_type_hints(settings_type)[name]) else wrong
            with pytest.raises(SettingsError, match=name):
                example(settings_type, **{name: value})


@pytest.mark.parametrize("settings_type", all_settings(), ids=lambda one: f"{one.__module__}.{one.__qualname__}")
def test_what_a_settings_class_contains_checks_itself_too(settings_type: type[CheckedSettings]) -> None:
    assert all(issubclass(part, CheckedSettings) for part in settings_types_of_fields(settings_type))


def commands() -> dict[str, type[Any]]:
    """Every verb with its settings class, as the command line has them."""
    from fct_ray.cli.commands import compare, doctor, embed, export, fit, search, store, upgrade

    return {
        "upgrade": upgrade.Settings, "compare": compare.Settings, "search": search.Settings,
        "backfill": embed.Backfill, "adopt": embed.Adopt, "append": embed.Append, "delete": embed.Delete,
        "fit": fit.FitEncoder, "fit side": fit.FitSide, "fit transformation": fit.FitTransformation,
        "doctor": doctor.Settings,
        "export": export.Settings,
        "status": store.Look, "verify": store.Verify, "rollback": store.Rollback, "gc": store.Collect,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "flag", "value", "wanted"),
    [
        ("upgrade", "--num-pairs", "0", "1 or more, or leave it out"),
        ("upgrade", "--batch-rows", "0", "1 or more"),
        ("upgrade", "--gate.k", "0", "1 or more"),
        ("upgrade", "--gate.share", "2", "less than 1"),
        ("upgrade", "--gate.share", "0", "more than 0"),
        ("upgrade", "--gate.tolerance", "nan", "a finite number"),
        ("upgrade", "--max-usd", "-1", "0 or more"),
        ("upgrade", "--max-bad-rows", "-1", "0 or more"),
        ("upgrade", "--verify-shards", "-1", "0 or more"),
        ("upgrade", "--seed", "-1", "0 or more"),
        ("upgrade", "--fit.epochs", "0", "1 or more"),
        ("upgrade", "--fit.learning-rate", "inf", "a finite number"),
        ("upgrade", "--fit.validation-share", "1", "less than 1"),
        ("upgrade", "--pool.cpus-per-actor", "0", "more than 0"),
        ("upgrade", "--pool.shards-per-actor", "0", "1 or more"),
        ("upgrade", "--train.num-workers", "0", "1 or more"),
        ("upgrade", "--quickstart.old.epochs", "0", "1 or more"),
        ("upgrade", "--quickstart.rows-per-shard", "0", "1 or more"),
        ("backfill", "--rows-per-shard", "0", "1 or more"),
        ("compare", "--max-gallery", "0", "1 or more"),
        ("fit", "--fit.momentum", "0", "more than 0"),
        ("search", "--k", "0", "1 or more"),
        ("verify", "--share", "0", "more than 0"),
        ("gc", "--keep", "-1", "0 or more"),
    ],
)
def test_the_command_line_names_the_flag_the_value_seen_and_the_value_wanted(
    verb: str, flag: str, value: str, wanted: str
) -> None:
    needed = [
        f"--{field.name.replace('_', '-')}=x"
        for field in dataclasses.fields(commands()[verb])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    with pytest.raises(SettingsError) as refusal:
        parse_settings(commands()[verb], [*needed, f"{flag}={value}"], None)
    assert str(refusal.value).startswith(f"{flag} is {value}")
    assert wanted in str(refusal.value)


def test_in_python_a_refusal_names_class_and_field() -> None:
    with pytest.raises(SettingsError, match=r"GateSettings\.k is 0; want 1 or more"):
        GateSettings(k=0)
    with pytest.raises(SettingsError, match=r"EncoderFit\.epochs is 1\.5; want a whole number"):
        EncoderFit(epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"UpgradeSettings\.metric is 'ip'; want an instance of Metric"):
        UpgradeSettings(store="s", encoder="e", metric="ip")  # type: ignore[arg-type]
