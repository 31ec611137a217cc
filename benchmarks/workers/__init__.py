"""Scripts that run in processes of their own; those of peers in the environment of `make peers`."""
