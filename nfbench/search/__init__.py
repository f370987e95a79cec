"""Hyper-parameter searches with Optuna: one study per variant and category."""
