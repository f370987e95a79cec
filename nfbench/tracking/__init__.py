"""Run records and studies in MLflow, as a mirror that can be deleted and made again at will."""
