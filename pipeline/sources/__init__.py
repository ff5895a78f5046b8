"""Readers of data-set layouts; each yields clips."""
