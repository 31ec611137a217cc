"""The frames of a series, where they lie, and what becomes of them: motion, warps, averages."""
