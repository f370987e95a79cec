"""The one exception that users see as a single line."""

__all__ = ["NfbenchError"]


class NfbenchError(Exception):
    """An error a user can repair: names the file, key or cell, what is wrong, and what to do.

    The command line prints it as one line and exits with status 1; the trace goes to the log.
    """
