"""The opt-in pass below the common-mode floor: rows on the average's own lattice."""
