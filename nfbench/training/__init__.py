"""Training: a loop with fixed epochs that survives being killed."""
