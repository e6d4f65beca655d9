"""From the command line (or a YAML file) to one frozen settings dataclass, and from errors to exit codes.

Owns: parsing through tyro, `--config FILE.yaml`, log handlers, exit codes. Knows nothing of what a
job does. Exit codes: 0 done; 2 a setting or an input was refused before or during the run; 3 the gate refused; 130
interrupted.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from fct_ray.cli.yaml_file import load_mapping
from fct_ray.errors import FctRayError, GateRefusedError, SettingsError
from fct_ray.settings import CheckedSettings, check_settings, checked_together

SettingsT = TypeVar("SettingsT", bound=CheckedSettings)
VALUES_OF_ENUMS = (tyro.conf.EnumChoicesFromValues,)
Command = tuple[type[Any], Callable[[Any], None]]
_SETTING = re.compile(r"(?!(?:h|help|config)$)[A-Za-z][A-Za-z0-9_-]*")
_CREDENTIALS = re.compile(
    r"://[^/?#\s]*@"  # scheme://user:password@host
    r"|\bs3a?://[^/\s]*:"  # s3://key:secret..., also where the secret has a slash
    r"|://[^/?#\s:\[]*:(?!\d*(?:[/?#\s]|$))",  # what follows the colon is no port
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """The one option that every job has besides its own."""

    config: Path | None = None
    """A YAML file with any of the settings below; the command line overrides it."""


def run_job(commands: Command | Mapping[str, Command], description: str, argv: Sequence[str] | None = None) -> None:
    """Parse settings, run the job, turn our errors into a clear last line and a non-zero exit code.

    `commands` is one (settings type, function), or a mapping of sub-command names to such pairs.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("aiobotocore", "botocore", "fsspec", "s3fs"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings, run = _choose(commands, description, arguments)
        run(settings)
    except GateRefusedError as error:
        _fail(error, code=3)
    except FctRayError as error:
        _fail(error, code=2)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to resume", file=sys.stderr)
        raise SystemExit(130) from None


def _fail(error: FctRayError, code: int) -> None:
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
    raise SystemExit(code)


def _choose(
    commands: Command | Mapping[str, Command], description: str, arguments: list[str]
) -> tuple[Any, Callable[[Any], None]]:
    _refuse_credentials(arguments)
    if isinstance(commands, tuple):
        settings_type, run = commands
        return parse_settings(settings_type, arguments, description), run
    name = arguments[0] if arguments else ""
    if name in commands:
        settings_type, run = commands[name]
        return parse_settings(settings_type, arguments[1:], None, prog=f"jobs/{Path(sys.argv[0]).name} {name}"), run
    types: dict[str, Callable[..., Any]] = {key: pair[0] for key, pair in commands.items()}
    tyro.extras.subcommand_cli_from_dict(types, description=description, args=arguments or ["--help"])
    raise SettingsError(f"unknown command {name!r}: want one of {', '.join(commands)}")


def parse_settings(
    settings_type: type[SettingsT], arguments: Sequence[str], description: str | None, prog: str | None = None
) -> SettingsT:
    """Settings from `--config FILE` (if given), overridden by the command line.

    Raises:
        SettingsError: the YAML file is missing or is not a mapping; a value is a URI with credentials in it, or one with
            which no work could end well.
        SystemExit: an unknown setting or a value of the wrong type (code 2, with suggestions).
    """
    config, rest = ConfigFile(), list(arguments)
    if not {"-h", "--help"} & set(arguments):
        config, rest = tyro.cli(ConfigFile, args=rest, return_unknown_args=True, add_help=False)
    if config.config is not None:
        rest = [*flags_of_yaml(config.config), *rest]
    _refuse_credentials(rest)
    text = (description or settings_type.__doc__ or "") + "\n\nAlso: --config FILE.yaml reads any of these settings."
    with checked_together():
        settings = tyro.cli(settings_type, args=rest, description=text, prog=prog, config=VALUES_OF_ENUMS)
    check_settings(settings, "--", "-")
    return settings


def flags_of_yaml(path: Path) -> list[str]:
    """The settings of a YAML file as command-line flags, so that both are checked by the same parser.

    `{quickstart: {num_pairs: 5}, controls: true}` is `--quickstart.num-pairs=5 --controls`.

    Raises:
        SettingsError: the file is missing, is not YAML, or is not a mapping of settings.
    """
    return _flags(load_mapping(path, f"--config {path}", "give a YAML file with lines of setting: value"), "")


def _flags(content: dict[str, Any], prefix: str) -> list[str]:
    flags: list[str] = []
    for key, value in content.items():
        if not _SETTING.fullmatch(key):
            raise SettingsError(f"--config: {prefix}{key!r:.100} is not the name of a setting; see --help for those")
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict):
            flags += _flags(value, f"{name}.")
        elif isinstance(value, list):
            raise SettingsError(f"--config: --{name} is a list; wanted one value")
        elif isinstance(value, bool):
            head, _, last = name.rpartition(".")
            flags.append(f"--{name}" if value else f"--{head}.no-{last}" if head else f"--no-{last}")
        else:
            flags.append(f"--{name}={value}")
    return flags


def _refuse_credentials(arguments: Sequence[str]) -> None:
    """A secret in a setting would reach reports, logs and the process list. The message must not repeat it."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if _CREDENTIALS.search(argument):
            name = argument.partition("=")[0] if argument.startswith("--") else before
            raise SettingsError(
                f"{name if name.startswith('--') else 'an argument'}: a URI with credentials in it; wanted a URI without, "
                "and credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or by the machine's role. "
                "If it was typed, the shell's history has it now: replace the key"
            )
