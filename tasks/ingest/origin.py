"""Where rows come from, and what becomes of one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tasks.params import Ingest
from tasks.records import Record, Reject, digest

_SHOWN = 500
"""Characters of a rejected row that are kept with the reason."""


@dataclass(frozen=True)
class Origin:
    """A source as a format reads it: its name, where it lies, and what its rows are where they do not say it."""

    name: str
    path: Path
    cluster: str
    licence: str
    seed: int = 0
    task: str = ""
    files: str = "**/*"
    format: str = "auto"
    tools: str = "text"
    person: str | None = None

    @classmethod
    def of(cls, name: str, section: Ingest) -> "Origin":
        """The source `name` of params.yaml."""
        source = section.sources[name]
        return cls(
            name,
            Path(source.path),
            source.cluster or name,
            source.licence,
            section.seed,
            source.task or name,
            source.files,
            source.format,
            source.tools,
            source.person,
        )

    def record(
        self,
        task: str,
        cluster: str,
        fields: dict[str, str],
        outputs: list[str],
        options: list[str] | None = None,
        **more: Any,
    ) -> Record:
        """A record of this source; its id depends on what it says, not on where in the source it stands."""
        identity = digest([fields, outputs, sorted(options or []), more.get("turns", []), more.get("system", "")])
        return Record(
            f"{self.name}/{task}/{identity}",
            task,
            cluster,
            self.name,
            more.pop("licence", self.licence),
            fields,
            outputs,
            options or [],
            **more,
        )


class Usable(NamedTuple):
    """A row that became a record, and its place."""

    place: str
    record: Record


class Row(NamedTuple):
    """A parsed row, its place, and the name of its file without what says how the file is written."""

    place: str
    value: dict[str, Any]
    file: str = ""


def reject(origin: Origin, place: str, reason: str, value: object) -> Reject:
    """A rejected row of `origin`, without the field that says whose it is."""
    if isinstance(value, dict):
        value = {name: held for name, held in value.items() if name != origin.person}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Reject(origin.name, place, reason, text[:_SHOWN].encode(errors="replace").decode())
