"""The figures of a benchmark as JSON, for programs and for the record.

Owns: what is said of the machine, and that no path of it is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fct_ray.report.environment import describe_environment

PLACES = frozenset({"directory", "storage", "output"})


def figures_json(settings: Any, figures: Mapping[str, Any]) -> bytes:
    """Settings (a dataclass), machine and figures, as UTF-8; paths below `settings.directory` begin with DIRECTORY.

    Raises:
        TypeError: a figure is nothing that JSON knows.
    """
    values = dataclasses.asdict(settings)
    content = {
        "settings": {name: value for name, value in values.items() if name not in PLACES},
        "environment": dataclasses.asdict(describe_environment(datetime.now(UTC))),
        **figures,
    }
    text = json.dumps(content, indent=1) + "\n"
    if "directory" in values:
        here = json.dumps(str(Path(values["directory"]).absolute()))[1:-1]
        text = text.replace(here, "DIRECTORY")
    return text.encode()
