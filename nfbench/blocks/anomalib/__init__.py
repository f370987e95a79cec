"""What the method ``anomalib`` is made of: rows that describe the models, their construction, and their training."""
