"""From the command line (or a YAML file) to one frozen settings dataclass, and from errors to exit codes.

Owns: parsing through tyro, `--config FILE.yaml`, log handlers, exit codes. Knows nothing of what a
job does. Exit codes: 0 done; 2 a setting or an input was refused before or during the run; 3 the gate refused; 130
interrupted.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from fct_ray.errors import FctRayError, GateRefusedError, SettingsError

SettingsT = TypeVar("SettingsT")
VALUES_OF_ENUMS = (tyro.conf.EnumChoicesFromValues,)
Command = tuple[type[Any], Callable[[Any], None]]


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
        SettingsError: the YAML file is missing or is not a mapping.
        SystemExit: an unknown setting or a value of the wrong type (code 2, with suggestions).
    """
    config, rest = ConfigFile(), list(arguments)
    if not {"-h", "--help"} & set(arguments):
        config, rest = tyro.cli(ConfigFile, args=rest, return_unknown_args=True, add_help=False)
    if config.config is not None:
        rest = [*flags_of_yaml(config.config), *rest]
    text = (description or settings_type.__doc__ or "") + "\n\nAlso: --config FILE.yaml reads any of these settings."
    return tyro.cli(settings_type, args=rest, description=text, prog=prog, config=VALUES_OF_ENUMS)


def flags_of_yaml(path: Path) -> list[str]:
    """The settings of a YAML file as command-line flags, so that both are checked by the same parser.

    `{quickstart: {num_pairs: 5}, controls: true}` is `--quickstart.num-pairs 5 --controls`.

    Raises:
        SettingsError: the file is missing, is not YAML, or is not a mapping.
    """
    if not path.is_file():
        raise SettingsError(f"--config {path}: no such file; give the path of a YAML file with settings")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SettingsError(f"--config {path}: is not YAML ({error}); want lines of setting: value") from None
    if not isinstance(content, dict):
        raise SettingsError(f"--config {path}: holds {type(content).__name__}; want a mapping of setting: value")
    return _flags(content, "")


def _flags(content: dict[Any, Any], prefix: str) -> list[str]:
    flags: list[str] = []
    for key, value in content.items():
        name = f"{prefix}{str(key).replace('_', '-')}"
        if isinstance(value, dict):
            flags += _flags(value, f"{name}.")
        elif isinstance(value, bool):
            head, _, last = name.rpartition(".")
            flags.append(f"--{name}" if value else f"--{head}.no-{last}" if head else f"--no-{last}")
        else:
            flags += [f"--{name}", str(value)]
    return flags
