"""Datasets: one module each, found by its file name. Reading one imports no torch."""

HELPERS = (
    "base", "check", "download", "drawing", "fetch", "images", "layout", "listing", "manifest", "miniature", "rows",
    "sources", "staging", "unpack", "video",
)  # fmt: skip
"""Modules that are not plug-ins."""
