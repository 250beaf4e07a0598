"""The one kind of error that people see as a single line."""


class DidaError(Exception):
    """A problem the user can fix. The message says what happened and what to type next."""
