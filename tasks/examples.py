"""An example: a rendered (prompt, completion) pair that remembers its record and its template."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.records import write_lines


@dataclass(frozen=True)
class Example:
    """What is trained on: `prompt` is masked, `completion` is learnt. Neither carries chat markup yet."""

    id: str
    record: str
    task: str
    cluster: str
    template: str
    template_hash: str
    kind: str
    prompt: str
    completion: str


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples as JSON lines and return how many."""
    return write_lines(path, (asdict(example) for example in examples))


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a file that `write_examples` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Example(**json.loads(line))
