"""The one exception type for what a user can mend.

Raised anywhere below a command line with a message of one line that names the thing, what was expected, what was
found and what to do. `valyrian_jax.command.run` prints it and exits with status 2.
"""


class UserError(Exception):
    """A mistake in the input (a file, an option, a value), not in the program."""
