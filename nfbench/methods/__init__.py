"""Anomaly detection methods: one module each, found by its file name."""

HELPERS = ("base", "base_flow", "base_normalization")
"""Modules that are not plug-ins."""
