"""What everything else is built on: errors, files, provenance, the registry of plug-ins, devices."""
