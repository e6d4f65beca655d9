"""The console script `fct-ray VERB`: the same commands as `python jobs/*.py`, for whoever installed the package.

Owns: which verb is which command. A verb's module, and what it imports, is loaded only when it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

from fct_ray.version import __version__

VERBS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "upgrade": ("upgrade", (), "upgrade a store to a new encoder; without --store the quick start"),
    "fit": ("fit", (), "fit one model: old, new, side or transformation"),
    "backfill": ("embed", ("backfill",), "embed raw items as a new version (a full backfill)"),
    "adopt": ("embed", ("adopt",), "make a store out of existing Parquet embeddings"),
    "append": ("embed", ("append",), "add items"),
    "delete": ("embed", ("delete",), "take items out"),
    "compare": ("compare", (), "measure what an upgrade saves against a full backfill"),
    "search": ("search", (), "search with the embeddings of queries"),
    "store": ("store", (), "look at a store, verify it, roll it back, collect garbage"),
}
"""Verb -> (module of `fct_ray.cli.commands`, arguments that come first, what it does)."""


def main() -> None:
    """Run `fct-ray VERB ...`."""
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb == "--version":
        print(f"fct_ray {__version__}")
        return
    if verb not in VERBS:
        out = sys.stdout if verb in {"-h", "--help"} else sys.stderr
        if out is sys.stderr:
            print(f"fct-ray: there is no verb {verb!r}; want one of {', '.join(VERBS)}\n", file=out)
        print("usage: fct-ray VERB [settings]; `fct-ray VERB --help` explains each\n", file=out)
        for name, (_, _, does) in VERBS.items():
            print(f"  {name:<10} {does}", file=out)
        raise SystemExit(0 if out is sys.stdout else 2)
    module, first, _ = VERBS[verb]
    import_module(f"fct_ray.cli.commands.{module}").main([*first, *rest])
