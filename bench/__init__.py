"""Measurements: how fast rows leave, beside what one would use instead. Not part of the package."""
