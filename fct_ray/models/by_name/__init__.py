"""Encoders that a name is enough for: pretrained models of well-known libraries, and embeddings endpoints."""
