"""Datasets: one module each, found by its file name. Reading one imports no torch."""

HELPERS = (
    "base", "check", "download", "drawing", "fetch", "layout", "manifest", "miniature", "sources", "unpack", "video",
)  # fmt: skip
"""Modules that are not plug-ins."""
