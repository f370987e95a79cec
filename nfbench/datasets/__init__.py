"""Datasets: one module each, found by its file name. Reading one imports no torch."""
