"""Synthetic anomalies: one module each, found by its file name, and the choice of a few real anomalies."""
