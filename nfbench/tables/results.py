"""Tables of results: categories as rows, methods as columns."""

from nfbench.tables.model import make_table as make_results_table

__all__ = ["make_results_table"]
