"""The one kind of error that people see as a single line, and what warnings are about."""

from contextvars import ContextVar

# The file that is being read, lest a library's warning come without its name.
reading: ContextVar[str] = ContextVar("reading", default="")


class DidaError(Exception):
    """A problem the user can fix. The message says what happened and what to type next."""


class PassedOverWarning(UserWarning):
    """Files of a folder are left out; a command says so when all else is said."""
