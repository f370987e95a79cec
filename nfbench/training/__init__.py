"""Training: a loop with a fixed number of epochs that resumes after a kill."""
