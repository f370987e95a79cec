"""The one exception that users see as a single line."""

__all__ = ["NfbenchError", "printable"]


class NfbenchError(Exception):
    """An error a user can repair: names the file, key or cell, what is wrong, and what to do.

    The command line prints it as one line and exits with status 1; the trace goes to the log.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text in valid UTF-8: bytes of file names that are not are written as escapes."""
    return text.encode(errors="backslashreplace").decode()
