"""Anomaly detection methods: one module each, found by its file name."""

HELPERS = ("base", "base_coreset", "base_flow", "base_likelihood", "base_maps", "base_normalization", "base_patch")
"""Modules that are not plug-ins."""
