"""Tables as LaTeX, HTML and CSV: one module for each kind, found by its file name.

Modules with a leading underscore are what kinds are made of.
"""
