"""Importing a gallery from another system, as a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fct_ray.api.session import connect
from fct_ray.api.settings import settings_of
from fct_ray.api.stores import Encoder, Store
from fct_ray.workflows.import_gallery import ImportSettings, plan_import, run_import


def import_gallery(
    store: str | Path, *, origin: str, encoder: Encoder, side: Encoder | None = None, **settings: Any
) -> Store:
    """Make a store out of a gallery in another system, which is only read; the same call again does nothing.

    `origin` is a place: "npy:DIR", "faiss:FILE", "huggingface:DIR_OR_NAME#SPLIT", "delta:DIR", "iceberg:METADATA_JSON",
    "lance:DIR", "lancedb:DIR#TABLE" or "pgvector:postgresql://USER@HOST/DB#TABLE". Its columns are named by
    `columns={"id": "doc_id", "embedding": "emb"}`.

    Raises:
        FctRayError: there is no such table, a column is missing, or a row cannot be used; the message says what to do.
    """
    named = {"encoder": encoder, "side": side}
    chosen = {
        **settings,
        "store": str(store),
        "origin": origin,
        **{
            role: model if isinstance(model, str) else getattr(model, "name", str(model))
            for role, model in named.items()
            if model
        },
    }
    specs = {role: str(model) if isinstance(model, Path) else model for role, model in named.items()}
    plan = plan_import(settings_of(ImportSettings, chosen), encoder=specs["encoder"], side=specs["side"])
    connect()
    run_import(plan)
    return Store(store)
