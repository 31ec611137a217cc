"""How things run: blocks, devices, progress."""
