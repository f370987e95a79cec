"""Parts of the method ``anomalib``: descriptions of the models, their construction, and their training."""
