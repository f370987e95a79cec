"""Foundations: errors, files, provenance, the registry of plug-ins, devices."""
