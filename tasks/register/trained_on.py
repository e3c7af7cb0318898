"""Which records a version trained on: a table stored with its run, and the answer from MLflow alone."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import mlflow
import polars as pl
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks import settings, tables
from tasks.records import content_of, person_digest

STORED = "lineage/records.parquet"
"""The table's place among the files of a version's run."""

SCHEMA = pl.Schema({"record": pl.String(), "person": pl.String()})
"""A record's id, and the digest of whose it is; empty where the source does not say."""


def write(path: Path, examples: Path, ingested: Path) -> None:
    """Write the table of the records that stand in `examples`, in the order of the ingested sources.

    A record stands in one that was rendered from it, and in those whose exemplar it is. Packing may have left out an
    example that was too long, or its first exemplars; their records stand here all the same, since a claim that a
    record was not trained on must be safe.
    """
    used: set[str] = set()
    for frame in tables.read_frames(examples, ["record", "exemplars"]):
        used.update(frame["record"], frame["exemplars"].explode().drop_nulls())
    with tables.TableWriter(path, SCHEMA) as table:
        for source in sorted(ingested.glob("*/records.parquet")):
            for frame in tables.read_frames(source, ["id", "person"]):
                rows = [row for row in frame.iter_rows() if row[0] in used]
                table.write(tables.frame_of(rows, SCHEMA))


def versions(client: MlflowClient, name: str, ids: Iterable[str], persons: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each registered version that trained on one of the records or persons, with how many records; or `unknown`.

    A record is known again by its content, so its copies in other sources count.
    """
    contents, digests = {content_of(name) for name in ids}, {person_digest(person) for person in persons}
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
    for version in found:
        table = _stored(str(version.run_id))
        if table is None:
            yield str(version.version), "unknown: it was registered without a list of its records"
            continue
        content = pl.col("record").str.split("/").list.last()
        count = len(table.filter(content.is_in(contents) | pl.col("person").is_in(digests)))
        if count:
            yield str(version.version), f"{count:,} record{'s' if count > 1 else ''}"


def _stored(run: str) -> pl.DataFrame | None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=run, artifact_path=STORED, dst_path=scratch, tracking_uri=settings.tracking_uri()
            )
        except (MlflowException, OSError):
            return None
        return pl.read_parquet(path)
