"""The exception for user errors; commands print it in one line and exit with status 2."""


class UserError(Exception):
    """An error outside the program. The message states what is wrong, where, and what to do."""
