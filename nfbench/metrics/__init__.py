"""Exact metrics. Each is invariant under strictly increasing maps of the scores; none transforms them."""
