"""A hook of the documentation's generator: `<!-- help: VERB -->` in a page becomes what `fct-ray VERB --help` prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 112
_MARKER = re.compile(r"<!-- help: ([a-z ]+) -->")
_PROGRAM = """
import contextlib, io, json, sys
from fct_ray.cli.main import main

shown = {}
for verb in json.loads(sys.argv[1]):
    sys.argv, out = ["fct-ray", *verb.split(), "--help"], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    shown[verb] = out.getvalue()
print(json.dumps(shown))
"""
"""One process shows the help of all verbs: each would import torch and Ray anew."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with every marker replaced; called by MkDocs."""
    verbs = _MARKER.findall(markdown)
    if not verbs:
        return markdown
    shown = command_help(verbs)
    return _MARKER.sub(lambda found: f"```text\n{shown[found[1]]}\n```", markdown)


def command_help(verbs: Sequence[str]) -> Mapping[str, str]:
    """What `fct-ray VERB --help` prints, by verb, without colours, at a fixed width.

    Raises:
        subprocess.CalledProcessError: there is no such verb.
        ValueError: a verb printed nothing.
    """
    plain = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(verbs)], env=plain, stdout=subprocess.PIPE, text=True, check=True
    )
    shown = {verb: text.strip() for verb, text in json.loads(ran.stdout).items()}
    silent = [verb for verb, text in shown.items() if not text.startswith("usage:")]
    if silent:
        raise ValueError(f"`fct-ray {silent[0]} --help` printed no usage")
    return {verb: re.sub(r"^usage: .*", f"usage: fct-ray {verb} [settings]", text) for verb, text in shown.items()}
