"""Sums of patterns with weights: detectors, regions, and the kernels that take them in one pass."""
