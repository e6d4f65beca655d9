"""Where data sets are kept on this machine.

Ray workers that start in another working directory find the same place only if FCT_RAY_DATA is an absolute path.
"""

from __future__ import annotations

import os
from pathlib import Path


def data_directory() -> Path:
    """$FCT_RAY_DATA, or .data in the working directory; absolute, not necessarily existing."""
    return Path(os.environ.get("FCT_RAY_DATA") or ".data").absolute()
