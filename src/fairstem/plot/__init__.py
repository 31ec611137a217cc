"""Figures and reports from results."""
