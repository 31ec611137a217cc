"""Pure scores: image, position, displacement."""
