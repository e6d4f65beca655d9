"""The console script `fct-ray VERB`: the same commands as `python jobs/*.py`, for whoever installed the package.

Owns: which verb is which command. A verb's module, and what it imports, is loaded only when it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TextIO

from fct_ray.cli.command_line import JSON_FLAG, output, refuse
from fct_ray.errors import SettingsError
from fct_ray.version import __version__

VERBS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "upgrade": ("upgrade", (), "upgrade a store to a new encoder; without --store the quick start"),
    "fit": ("fit", (), "fit one model: old, new, side or transformation"),
    "backfill": ("embed", ("backfill",), "embed raw items as a new version (a full backfill)"),
    "adopt": ("embed", ("adopt",), "make a store out of existing Parquet embeddings"),
    "import": ("embed", ("import",), "make a store out of a gallery in another system"),
    "append": ("embed", ("append",), "add items"),
    "delete": ("embed", ("delete",), "take items out"),
    "compare": ("compare", (), "measure what an upgrade saves against a full backfill"),
    "search": ("search", (), "search with the embeddings of queries"),
    "export": ("export", (), "write a version to another system: Parquet, FAISS, LanceDB, pgvector"),
    "doctor": ("doctor", (), "look at a gallery before anything is done with it; reads only"),
    "store": ("store", (), "look at a store, verify it, roll it back, collect garbage"),
}
"""Verb -> (module of `fct_ray.cli.commands`, arguments that come first, what it does)."""


def main() -> None:
    """Run `fct-ray VERB ...`."""
    flags = [argument for argument in sys.argv[1:] if argument == JSON_FLAG]
    first, *rest = [argument for argument in sys.argv[1:] if argument != JSON_FLAG] or ["--help"]
    if first == "--version":
        print(f"fct_ray {__version__}")
    elif first in {"-h", "--help"}:
        _print_verbs(sys.stdout)
    elif first in VERBS:
        module, before, _ = VERBS[first]
        program = "fct-ray" if before else f"fct-ray {first}"
        import_module(f"fct_ray.cli.commands.{module}").main([*before, *rest, *flags], program)
    else:
        _print_verbs(sys.stderr)
        error = SettingsError(f"fct-ray: there is no verb {first!r}; want one of {', '.join(VERBS)}")
        with output(as_json=bool(flags)) as emit:
            code = refuse(error, emit)
        raise SystemExit(code)


def _print_verbs(out: TextIO) -> None:
    print("usage: fct-ray VERB [settings]; `fct-ray VERB --help` explains each\n", file=out)
    for name, (_, _, does) in VERBS.items():
        print(f"  {name:<10} {does}", file=out)
