"""Frozen features: extracted once, cached, and read by every method, variant and seed."""
