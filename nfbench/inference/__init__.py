"""Use of a trained run without the workflow: predictions, decisions, exported and packed models."""
