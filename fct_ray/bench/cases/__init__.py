"""Upgrade cases whose truth is known: the new model over the whole gallery, real queries or labels."""
