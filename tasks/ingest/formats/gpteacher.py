"""Format `gpteacher`: rows of instruction, input (may be missing or empty) and response.

The form of https://github.com/teknium1/GPTeacher.
"""

import functools

from tasks.ingest.formats.form import Format, triple

FORMAT = Format(
    "gpteacher", (("instruction",), ("response",)), functools.partial(triple, context="input", answer="response")
)
