"""From the command line (or a YAML file) to one frozen settings dataclass, and from errors to exit codes.

Owns: parsing through tyro, `--config FILE.yaml`, `--json`, log handlers, exit codes. Knows nothing of what a job does.
Exit codes: 0 done; 2 a setting or an input was refused before or during the run; 3 the gate refused; 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import tyro

from fct_ray.cli.finish import Finished
from fct_ray.cli.json_output import Emit, kept_stderr, stdout_for_json
from fct_ray.cli.yaml_file import load_mapping
from fct_ray.errors import FctRayError, GateRefusedError, SettingsError
from fct_ray.settings import CheckedSettings, check_settings, checked_together

SettingsT = TypeVar("SettingsT", bound=CheckedSettings)
VALUES_OF_ENUMS = (tyro.conf.EnumChoicesFromValues,)
Command = tuple[type[Any], Callable[[Any], Finished | None]]
JSON_FLAG, INTERRUPTED = "--json", 130
_SETTING = re.compile(r"(?!(?:h|help|config)$)[A-Za-z][A-Za-z0-9_-]*")
_CREDENTIALS = re.compile(
    r"://[^/?#\s]*@"  # scheme://user:password@host
    r"|\bs3a?://[^/\s]*:"  # s3://key:secret..., also where the secret has a slash
    r"|://[^/?#\s:\[]*:(?!\d*(?:[/?#\s]|$))",  # what follows the colon is no port
    re.IGNORECASE,
)
_DATABASE_USER = re.compile(r"(?<=:)(postgres(?:ql)?://)[A-Za-z0-9_.-]+@")
"""In the place of a database table the user's name is no secret, and has no password behind it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """The one option that every job has besides its own."""

    config: Path | None = None
    """A YAML file with any of the settings below; the command line overrides it."""


def run_job(
    commands: Command | Mapping[str, Command],
    description: str,
    argv: Sequence[str] | None = None,
    program: str | None = None,
) -> None:
    """Parse settings, run the job, turn our errors into a clear last line and a non-zero exit code.

    `commands` is one (settings type, function), or a mapping of sub-command names to such pairs. `program` is what the user
    typed to get here, for the help. With `--json` among the arguments one JSON object goes to the standard output: what the
    function hands back, or the refusal.
    """
    _set_logs_up()
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [argument for argument in given if argument != JSON_FLAG]
    with output(as_json=len(arguments) < len(given)) as emit:
        code = _run(commands, description, arguments, program, emit)
    if code:
        raise SystemExit(code)


def output(*, as_json: bool) -> AbstractContextManager[Emit]:
    """What takes the object of `--json`; without the flag nothing becomes of it."""
    return stdout_for_json() if as_json else nullcontext(_nothing)


def refuse(error: FctRayError, emit: Emit, report: Mapping[str, object] | None = None) -> int:
    """Say why as the last line of the error stream, and to programs as an object; returns the exit code."""
    code = 3 if isinstance(error, GateRefusedError) else 2
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
    emit(_refusal(type(error).__name__, str(error), code) | ({} if report is None else {"report": report}))
    return code


def _run(
    commands: Command | Mapping[str, Command],
    description: str,
    arguments: list[str],
    program: str | None,
    emit: Emit,
) -> int:
    try:
        with nullcontext(io.StringIO()) if emit is _nothing else kept_stderr() as complaints:
            settings, run = _choose(commands, description, arguments, program)
    except SystemExit as end:  # the parser's: help, or a setting that it does not know
        if end.code:
            text = " ".join(re.sub("[╭╮╰╯─│]", " ", complaints.getvalue()).split())
            emit(_refusal(SettingsError.__name__, text, int(end.code)))
        raise
    except FctRayError as error:
        return refuse(error, emit)
    try:
        finished = run(settings)
    except FctRayError as error:
        return refuse(error, emit)
    except KeyboardInterrupt:
        text = "interrupted: run the same command again to resume"
        print(text, file=sys.stderr)
        emit(_refusal(KeyboardInterrupt.__name__, text, INTERRUPTED))
        return INTERRUPTED
    if finished is None:
        return 0
    if finished.refusal is not None:
        return refuse(finished.refusal, emit, finished.document)
    emit(finished.document)
    return 0


def _refusal(kind: str, text: str, code: int) -> dict[str, object]:
    return {"error": text, "type": kind, "exit_code": code}


def _nothing(document: Mapping[str, object]) -> None:
    """What is emitted without `--json`."""


def _set_logs_up() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("aiobotocore", "botocore", "fsspec", "s3fs"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _choose(
    commands: Command | Mapping[str, Command], description: str, arguments: list[str], program: str | None
) -> tuple[Any, Callable[[Any], Finished | None]]:
    _refuse_credentials(arguments)
    program = program or f"python jobs/{Path(sys.argv[0]).name}"
    if isinstance(commands, tuple):
        settings_type, run = commands
        return parse_settings(settings_type, arguments, description, program), run
    name = arguments[0] if arguments else ""
    if name in commands:
        settings_type, run = commands[name]
        return parse_settings(settings_type, arguments[1:], None, f"{program} {name}"), run
    types: dict[str, Callable[..., Any]] = {key: pair[0] for key, pair in commands.items()}
    tyro.extras.subcommand_cli_from_dict(types, prog=program, description=description, args=arguments or ["--help"])
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
    text = (description or settings_type.__doc__ or "") + (
        "\n\nAlso: --config FILE.yaml reads any of these settings; --json prints one JSON object on the standard output, and "
        "everything else on the error stream."
    )
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
        if _CREDENTIALS.search(_DATABASE_USER.sub(r"\1", argument)):
            name = argument.partition("=")[0] if argument.startswith("--") else before
            raise SettingsError(
                f"{name if name.startswith('--') else 'an argument'}: a URI with credentials in it; wanted a URI without, "
                "and credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or by the machine's role. "
                "If it was typed, the shell's history has it now: replace the key"
            )
