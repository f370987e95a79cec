"""The report: one page of HTML with all results of an experiment, which needs no other file."""
