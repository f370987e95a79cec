"""Figures, written as PDF and PNG."""
