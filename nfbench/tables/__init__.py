"""Tables as LaTeX, HTML and CSV: one module per kind, found by its file name.

Modules with a leading underscore are shared by kinds.
"""
