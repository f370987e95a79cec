"""The report: a self-contained HTML page with all results of an experiment."""
