"""Anomaly detection methods: one module each, found by its file name."""
