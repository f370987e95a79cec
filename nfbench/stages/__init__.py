"""The stages of the pipeline: each is a function of its spec, called by the command line, by tests and from Python."""
