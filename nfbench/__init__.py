"""Benchmark of normalizing flows for image anomaly detection and localization."""

__version__ = "0.1.0"
