"""The one exception for what a user can mend, and the way a command shows it."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that the user can put right: the message names the place, the fault and the remedy."""


def run(main: Callable[[], object]) -> None:
    """Run a command; a user's mistake ends it with one message and exit status 1, without a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
