"""The plan: cells of an experiment, where their files lie, and the jobs that make them."""
