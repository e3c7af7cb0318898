"""What differs between two registered versions: data, templates, values, code, libraries and scores."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.params import dotted
from tasks.register.stored import Stored


class Difference(NamedTuple):
    """One thing that is not the same in both."""

    kind: str
    name: str
    before: str
    after: str


def of(client: MlflowClient, one: Stored, other: Stored) -> Iterator[Difference]:
    """Every difference between two versions, the links of their chains first."""
    before, after = one.made_from, other.made_from
    yield from _unlike("chain", _short(before["digests"]), _short(after["digests"]))
    yield from _unlike("source", _short(before["sources"]), _short(after["sources"]))
    yield from _unlike("data", dotted(before["data"]), dotted(after["data"]))
    yield from _unlike("value", dotted(one.params), dotted(other.params))
    inputs = one.told("inputs.json"), other.told("inputs.json")
    yield from _unlike("code", *(_short(each["code"]) for each in inputs))
    yield from _unlike("library", *(each["versions"] for each in inputs))
    yield from _unlike("score", *(scores(client, each) for each in (one, other)))


def scores(client: MlflowClient, version: Stored) -> dict[str, Any]:
    """The means of the version's report; none where it has no report."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = client.download_artifacts(str(version.version.run_id), "report/summary.json", scratch)
        except (MlflowException, OSError):
            return {}
        return dotted(json.loads(Path(path).read_text(encoding="utf-8")))


def _unlike(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        one, other = (json.dumps(side[name]) if name in side else "–" for side in (before, after))
        if one != other:
            yield Difference(kind, name, one, other)


def _short(digests: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[:12] for name, digest in digests.items()}
