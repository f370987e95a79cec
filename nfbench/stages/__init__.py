"""Stages of the pipeline. Each is a function of its spec, for the command line, tests and Python."""
