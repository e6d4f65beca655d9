"""Ray Train: fitting encoders, side-information models and transformations."""
