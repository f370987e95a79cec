"""Dataset readers: one module each, found by file name. Readers do not import torch."""
