"""Format `alpaca`: rows of instruction, input (may be missing or empty) and output.

The form of Stanford Alpaca's data file, https://github.com/tatsu-lab/stanford_alpaca.
"""

import functools

from tasks.ingest.formats.form import Format, triple

FORMAT = Format("alpaca", (("instruction",), ("output",)), functools.partial(triple, context="input", answer="output"))
