"""Upgrade the embedding model behind a large vector index without re-embedding everything.

    store = fct_ray.Store("s3://bucket/gallery")
    plan = store.plan_upgrade(encoder="api-v2", pairs="pairs.parquet", index="IVF1024,PQ16")
    result = plan.run()
    scores, ids = store.searcher("api-v2").search(queries, k=10)

Importing this package is quick: each name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fct_ray.version import __version__

if TYPE_CHECKING:
    from fct_ray.api.imports import import_gallery
    from fct_ray.api.session import connect
    from fct_ray.api.stores import Store, adopt, backfill
    from fct_ray.api.transformations import Transformation, load_transformation
    from fct_ray.api.upgrades import PlannedUpgrade, UpgradeResult
    from fct_ray.errors import FctRayError
    from fct_ray.kinds import Metric

__all__ = [
    "FctRayError",
    "Metric",
    "PlannedUpgrade",
    "Store",
    "Transformation",
    "UpgradeResult",
    "__version__",
    "adopt",
    "backfill",
    "connect",
    "import_gallery",
    "load_transformation",
]
_MODULES = {
    "connect": "fct_ray.api.session",
    "Store": "fct_ray.api.stores",
    "adopt": "fct_ray.api.stores",
    "backfill": "fct_ray.api.stores",
    "import_gallery": "fct_ray.api.imports",
    "Transformation": "fct_ray.api.transformations",
    "load_transformation": "fct_ray.api.transformations",
    "PlannedUpgrade": "fct_ray.api.upgrades",
    "UpgradeResult": "fct_ray.api.upgrades",
    "FctRayError": "fct_ray.errors",
    "Metric": "fct_ray.values",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fct_ray' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
