"""Pixels that a symmetry operation ties together: operations, pairs, sums over them, and what follows from the sums."""
