"""`--json`: one JSON object on the standard output, and everything else that is printed on the error stream.

Owns: where output goes meanwhile, also that of libraries and of child processes. What the object says is the command's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping

Emit = Callable[[Mapping[str, object]], None]


@contextlib.contextmanager
def stdout_for_json() -> Iterator[Emit]:
    """Until the end of the block the standard output is the error stream; the yielded function writes to the real one."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)

    def emit(document: Mapping[str, object]) -> None:
        with os.fdopen(os.dup(real), "w", encoding="utf-8") as out:
            out.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")

    try:
        yield emit
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


@contextlib.contextmanager
def kept_stderr() -> Iterator[io.StringIO]:
    """What is printed on the error stream in the block, kept as text; it is printed at the end of the block too."""
    kept = io.StringIO()
    try:
        with contextlib.redirect_stderr(kept):
            yield kept
    finally:
        sys.stderr.write(kept.getvalue())
        sys.stderr.flush()
