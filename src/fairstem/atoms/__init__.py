"""Atom columns: find, refine, lattice, bonds."""
