"""Tables as LaTeX, HTML and CSV."""
