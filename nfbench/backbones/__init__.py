"""Frozen feature extractors: one module per family, found by its file name. Describing one imports no torch."""
