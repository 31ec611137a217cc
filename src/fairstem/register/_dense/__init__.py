"""A displacement of every pixel, after Berkels et al."""
