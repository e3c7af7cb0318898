"""Decontamination: no training record shares text with a document of this run's benchmarks.

A record is dropped where it holds so many words in a row of a document, 13 by default (Brown et al. 2020,
arXiv 2005.14165, appendix C), whatever the case, the white space and the punctuation. Records are looked up by number
in processes of their own, and what is found is compared as text.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from tasks import outputs, parallel, tables
from tasks.render import index, ngrams
from tasks.render.catalogue import Catalogue, Group, Mask
from tasks.render.index import Index
from tasks.render.ngrams import Numbers, Words

_COLUMNS = ["id", "field_names", "field_texts", "outputs", "turns"]


class Overlap(NamedTuple):
    """A record and a document that share words."""

    record: str
    benchmark: str
    document: str
    shared: str


class Scan(NamedTuple):
    """What was found in a row group: a hash of what each record asks, and the overlaps by the record's place."""

    asked: Numbers
    overlaps: list[tuple[int, Overlap]]


class Found(NamedTuple):
    """What was found in all records: a hash of what each one asks, and which share text with a benchmark."""

    asked: Numbers
    contaminated: Mask


def search(catalogue: Catalogue, among: Mask, home: Path, out: Path) -> Found:
    """Look the records up in the index in `home`; write dropped.jsonl, and the documents' marks, into `out`.

    A clean score leaves out the documents that marks.json names, by benchmark.
    """
    out.mkdir()
    found = Found(np.zeros(len(among), np.uint64), np.zeros(len(among), bool))
    marks: dict[str, set[str]] = defaultdict(set)
    parts = [(group, among[group.start : group.stop]) for group in catalogue.groups]
    scans = parallel.ordered(_scan, parts, read=_read, files={"home": home})
    with (out / "dropped.jsonl").open("w", encoding="utf-8", newline="\n") as dropped:
        for group, scan in zip(catalogue.groups, scans, strict=True):
            found.asked[group.start : group.stop] = scan.asked
            for place, overlap in scan.overlaps:
                found.contaminated[group.start + place] = True
                marks[overlap.benchmark].add(overlap.document)
                dropped.write(json.dumps(overlap._asdict(), ensure_ascii=False) + "\n")
    outputs.write_json(out / "marks.json", {name: sorted(documents) for name, documents in marks.items()})
    return found


def overlaps(texts: pl.Series, home: Index) -> Iterator[tuple[int, int, str]]:
    """The place of a text, the place of a document with which it shares words, and the first words that it shares."""
    words = ngrams.words(texts)
    shared: dict[tuple[int, int], str] = {}
    for place, length, number in _hits(words, home):
        owner = int(words.owners(np.array([place]))[0])
        fresh = [document for document in home.owners(number) if (owner, document) not in shared]
        phrase = words.phrase(place, length) if fresh else ""
        shared |= {(owner, document): phrase for document in fresh if home.says(document, phrase)}
    return ((*pair, phrase) for pair, phrase in sorted(shared.items()))


def _hits(words: Words, home: Index) -> Iterator[tuple[int, int, np.uint64]]:
    """Where runs of words begin that have a number of the index, how long they are, and the number."""
    for length, numbers in ngrams.runs(words.numbers, home.lengths.tolist()):
        for place in words.within(home.find(numbers), length).tolist():
            yield place, length, numbers[place]


def _read(part: tuple[Group, Mask]) -> tuple[pl.DataFrame, Mask]:
    """The texts of a row group's records, and which of them are looked up."""
    group, among = part
    return tables.read_group(group.path, group.number, _COLUMNS), among


def _scan(part: tuple[pl.DataFrame, Mask], home: Path) -> Scan:
    """A row group's records; runs in a process of its own."""
    frame, among = part
    asked = frame.select(pl.concat_list("field_names", "field_texts", "turns").list.join("\0").hash()).to_series()
    if not among.any():
        return Scan(asked.to_numpy(), [])
    places = np.flatnonzero(among)
    text = pl.concat_list("field_texts", "turns", "outputs").list.join("\n")
    chosen = frame.filter(among).select("id", text=text)
    here = index.load(home)
    found = [
        (int(places[place]), Overlap(chosen["id"][place], *here.name(document), phrase))
        for place, document, phrase in overlaps(chosen["text"], here)
    ]
    return Scan(asked.to_numpy(), found)
