"""Rows of real text for the data benchmark, without a download: docstrings of the installed packages."""

import ast
import itertools
import json
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

DIFFERENT = 80_000
"""Functions that are looked for; more rows are these again, each with a number of its own."""


_TAG = re.compile(r"<\|?\w+\|?>")
"""What may be the name of a special token: text to this project, and markup to `apply_chat_template`."""


class Documented(NamedTuple):
    """A function or class of an installed package: its name, its head, and the docstring."""

    name: str
    code: str
    docstring: str


def write(path: Path, rows: int) -> None:
    """Write so many rows in Alpaca form to `path`, one object a line, no two alike."""
    found = texts()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(rows):
            one = found[number % len(found)]
            row = {
                "instruction": f"Write the docstring of `{one.name}` (request {number}).",
                "input": one.code,
                "output": one.docstring,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@cache
def texts() -> list[Documented]:
    """What the rows are made of."""
    return list(itertools.islice(documented(Path(sysconfig.get_paths()["purelib"])), DIFFERENT))


def documented(folder: Path) -> Iterator[Documented]:
    """The functions and classes with a docstring of some length under a folder, in the order of the files' names."""
    for path in sorted(folder.rglob("*.py")):
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        lines = text.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                docstring = ast.get_docstring(node) or ""
                head = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]))[:600]
                if 80 <= len(docstring) <= 1_500 and not _TAG.search(head + docstring):
                    yield Documented(node.name, head, docstring)
