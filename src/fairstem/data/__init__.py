"""The registry of real, licensed sample files."""
