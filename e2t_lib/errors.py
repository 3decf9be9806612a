"""The one exception a user is meant to read."""


class E2TError(Exception):
    """Something the user can mend: what is wrong, where, and what to do, in one line.

    The command line prints it on stderr and exits with code 2; a notebook shows it as the last line.
    """

    exit_code = 2
