"""The plan: cells of an experiment, their files, and the jobs that write them."""
