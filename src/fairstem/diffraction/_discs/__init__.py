"""Finding the bright-field disc: its circle, edge, centre over the scan, lattice, and the pixels that are no good."""
