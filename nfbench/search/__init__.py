"""Searches of hyper-parameters with Optuna: one study per variant and category."""
