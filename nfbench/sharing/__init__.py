"""Bundles of results, and merging those of several machines or people."""
