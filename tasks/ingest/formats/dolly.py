"""Format `dolly`: rows of instruction, context (may be empty), response and category.

The form of databricks-dolly-15k. A category is a cluster, and in its source a task.
"""

from tasks.ingest.formats.form import Format, optional, triple
from tasks.ingest.origin import Origin, Row
from tasks.records import Record, slug


def record(row: Row, origin: Origin) -> Record:
    """The record of a row; one without a category is of the source's own task and cluster."""
    category = optional(row.value, "category")
    named = {"task": slug(f"{origin.task}_{category}"), "cluster": slug(category)} if category else {}
    return triple(row, origin, context="context", answer="response", **named)


FORMAT = Format("dolly", (("instruction",), ("context",), ("response",)), record, names_clusters=True)
