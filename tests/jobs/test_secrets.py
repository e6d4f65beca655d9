"""Credentials that are wrong, or in the wrong place: refused without repeating them (what jobs leave: `test_s3`)."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from fct_ray.cli.command_line import parse_settings
from fct_ray.cli.commands.upgrade import Settings
from fct_ray.errors import SettingsError
from tests.jobs.conftest import run_job


def test_a_refused_credential_is_not_in_the_error(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = secrets.token_hex(20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    done = run_job("store", "status", "--store", f"{s3_uri}/store", expect=2)
    assert "refused" in done.stderr
    assert wrong not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("s3://AKIAEXAMPLE:wJalrXUtnFEMI@bucket/gallery", ("AKIAEXAMPLE", "wJalrXUtnFEMI")),
        ("s3://AKIAEXAMPLE:wJal/rXUtn+FEMI@bucket/gallery", ("AKIAEXAMPLE", "wJal", "FEMI")),
        ("s3://AKIAEXAMPLE@bucket/gallery", ("AKIAEXAMPLE",)),
        ("https://user:pass1word@host/gallery", ("pass1word",)),
        ("images:https://user:pa/ss1word@host/photos", ("ss1word",)),
        ("pgvector:postgresql://user:pass1word@host/db#items", ("pass1word",)),
        ("postgresql://AKIAEXAMPLE@host/db", ("AKIAEXAMPLE",)),
    ],
)
def test_credentials_in_a_uri_are_refused_by_setting_and_not_repeated(
    value: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"store: {value!r}\n")
    for arguments in (["--store", value], [f"--store={value}"], ["--config", str(file)]):
        with pytest.raises(SettingsError, match=r"^--store: a URI with credentials in it") as refusal:
            parse_settings(Settings, arguments, None)
        assert not [part for part in parts if part in str(refusal.value)]


def test_a_job_refuses_credentials_in_a_uri_before_anything_shows_them() -> None:
    for command_name in ("status", "stauts"):
        done = run_job("store", command_name, "--store", "s3://AKIAEXAMPLE:wJalrXUtnFEMI@bucket/gallery", expect=2)
        assert "--store: a URI with credentials" in done.stderr
        assert "AKIAEXAMPLE" not in done.stdout + done.stderr
        assert "wJalrXUtnFEMI" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "value",
    [
        "pgvector:postgresql://user@host:5432/db#items",
        "s3://bucket/a@b",
        "images:s3://b/p?x=a@b",
        "http://127.0.0.1:8265",
        "tests.own:old",
    ],
)
def test_what_only_looks_like_credentials_is_accepted(value: str) -> None:
    assert parse_settings(Settings, ["--store", value], None).store == value
