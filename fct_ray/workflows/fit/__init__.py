"""Fitting models: encoders from raw items, transformations from pairs."""
