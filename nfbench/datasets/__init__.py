"""Datasets: one module each, found by its file name. Reading one imports no torch."""

HELPERS = ("base", "layout", "manifest", "miniature", "sources", "video")
"""Modules that are not plug-ins."""
