"""Building blocks of methods. Invertible steps are FrEIA modules: they return ``((y,), log_det)``, ``log_det (B,)``."""
