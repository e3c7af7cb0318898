"""Format `unnatural`: rows of an instruction and instances of input, constraints and output, maybe reformulated.

The form of https://github.com/orhonovich/unnatural-instructions. Each instance is a record, and so is each of the
`reformulations`, which say instruction and input in one text.
"""

from collections.abc import Iterator

from tasks.ingest.formats.form import Format, instances, optional, part, text
from tasks.ingest.origin import Origin, Row
from tasks.records import Record

_NO_CONSTRAINTS = {"", "none", "none."}


def every(row: Row) -> Iterator[Row]:
    """The row's instances and then its reformulations."""
    reformulations = {**row.value}.pop("reformulations", None)
    plain = {name: value for name, value in row.value.items() if name != "reformulations"}
    yield from instances(row._replace(value=plain), "instances")
    if reformulations:
        yield from instances(
            Row(row.place, {"reformulations": reformulations}, row.file), "reformulations", "rewording"
        )


def record(row: Row, origin: Origin) -> Record:
    """The record of an instance or a reformulation; constraints on the output belong to the instruction."""
    if "rewording" in row.value:
        said = part(row, "rewording")
        fields = {"instruction": text(said, "instruction_with_input"), "input": ""}
    else:
        said = part(row)
        asked = [text(row.value, "instruction")]
        constraints = optional(said, "constraints")
        if constraints.lower() not in _NO_CONSTRAINTS:
            asked.append(constraints)
        fields = {"instruction": "\n".join(asked), "input": optional(said, "input")}
    return origin.record(origin.task, origin.cluster, fields, [text(said, "output")])


FORMAT = Format("unnatural", (("instruction",), ("instances",)), record, every)
