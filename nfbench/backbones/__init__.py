"""Frozen feature extractors: one module per family, found by its file name. Describing one imports no torch."""

HELPERS = ("base", "extractors", "weights")
"""Modules that are not plug-ins."""
