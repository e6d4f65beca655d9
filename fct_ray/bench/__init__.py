"""Measuring the engine against its limits and its peers. Nothing else imports this room."""
