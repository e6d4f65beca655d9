"""What makes a query for a version, read from the model directory of the version's transformation.

Owns: reading its two files. Imports no torch: a searcher opens without it.
"""

from __future__ import annotations

from fct_ray.models.query_map import QueryMap
from fct_ray.shards.encoder_names import read_document
from fct_ray.storage import objects

WEIGHTS = "weights.safetensors"


def query_map_at(uri: str) -> QueryMap:
    """The map from a query's embeddings to what is searched with. Raises ModelError: a file is damaged."""
    return QueryMap.of(read_document(uri), objects.read_bytes(objects.join(uri, WEIGHTS)), uri)
