"""The one exception that a user can cause; commands print it in one line and exit with status 2."""


class UserError(Exception):
    """Something outside the program is wrong. The message says what, where, and what to do."""
