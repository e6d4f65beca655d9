"""Decisions as pure functions over values: what remains, what fits, what is refused, what it costs."""
