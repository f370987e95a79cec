"""Invertible steps, as FrEIA modules: each returns ``((y,), log_det)`` with ``log_det`` of shape ``(B,)``."""
