"""Run records, their aggregation, and the comparison with published values."""
