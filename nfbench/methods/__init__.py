"""Anomaly detection methods: one module each, found by its file name."""

HELPERS = ("base", "base_flow")
"""Modules that are not plug-ins."""
