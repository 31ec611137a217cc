"""The crystal of an image: its lattice, its cell, its slow fields, and the sites that deviate."""
