"""Anomaly detection methods: one module each, found by its file name."""

HELPERS = ()
"""Modules that are not plug-ins."""
