"""Rows on the mean of the other frames: rigid, row by row, and with a slow field on top."""
