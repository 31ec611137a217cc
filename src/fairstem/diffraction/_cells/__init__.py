"""Unit cells of the scan: the lattice of a virtual image, and the weights of whole cells."""
