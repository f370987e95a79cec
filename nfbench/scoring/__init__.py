"""From a trained method and cached test features to anomaly maps, image scores and metrics."""
