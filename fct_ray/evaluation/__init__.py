"""Retrieval quality and compatibility, from arrays: numpy only, no model, no store, no index."""
