"""Mirror of run records and studies in MLflow, which can be deleted and rebuilt at any time."""
