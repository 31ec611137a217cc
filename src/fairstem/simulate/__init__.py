"""Forward models: ground truth."""
