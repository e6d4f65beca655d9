"""From what a person types to a settings value, and from an outcome to a report and an exit code."""
