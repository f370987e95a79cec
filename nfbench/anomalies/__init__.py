"""Synthetic anomalies: one module each, found by its file name, and what few real anomalies they may be made of."""
