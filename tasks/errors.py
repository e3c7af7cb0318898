"""The one exception for what a user can mend, and the way a command shows it."""

import difflib
import sys
from collections.abc import Callable, Collection

_FEW = 12
"""Names that a message can list without burying what it says."""


class UserError(Exception):
    """Something that the user can put right: the message names the place, the fault and the remedy."""


def suggestion(name: str, choices: Collection[str]) -> str:
    """What a wrong name may be meant to be: the nearest choice first, and all of them only where they are few."""
    near = difflib.get_close_matches(name, choices, n=1)
    meant = f"did you mean {near[0]}?" if near else ""
    if len(choices) <= _FEW:
        return f"{meant} there are {', '.join(sorted(choices)) or 'none'}".strip()
    examples = difflib.get_close_matches(name, choices, n=3, cutoff=0.0)
    return meant or f"there are {len(choices)}, the nearest to it {', '.join(examples)}"


def run(main: Callable[[], object]) -> None:
    """Run a command; a user's mistake ends it with one message and exit status 1, without a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
