"""Upgrade the embedding model behind a large vector index without re-embedding everything.

Nothing heavy is imported here: an actor that only reads a manifest must not pay for torch or ray.
"""

__version__ = "0.1.0"
