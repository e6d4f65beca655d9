"""The room of torch: encoders, losses, augmentation, transformations and model files, bytes at its door."""
