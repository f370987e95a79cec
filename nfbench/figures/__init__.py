"""Figures, written as PDF and PNG: one module for each kind, found by its file name.

Modules with a leading underscore are what kinds are drawn with.
"""
