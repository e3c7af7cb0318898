"""The draws by seed: which template a record is rendered in, and which exemplars stand before its prompt."""

import hashlib
import struct
from collections.abc import Sequence

from tasks.params import FewShot, Render
from tasks.records import Record
from tasks.render.templates import Template


def draw_form(seed: int, record: Record, templates: Sequence[Template], wanted: Render) -> Template:
    """One of the templates, by seed and record alone, so that other records change nothing.

    A share that is wanted decides first whether the template is inverted, then whether a direct one lists the
    options; where no template is of that form, the others take its place. Without shares all are drawn alike.
    """
    kind, listing, first, second = _places(seed, record.id, "template")
    if wanted.inverted_share is not None:
        inverted = kind < wanted.inverted_share
        templates = [item for item in templates if (item.kind == "inverted") == inverted] or templates
    template = templates[int(first * len(templates))]
    if wanted.options_share is None or not record.options or template.kind == "inverted":
        return template
    direct = [item for item in templates if item.kind == "direct"]
    direct = [item for item in direct if item.lists_options == (listing < wanted.options_share)] or direct
    return direct[int(second * len(direct))]


def draw_exemplars(seed: int, record: Record, pool: Sequence[Record], wanted: FewShot) -> list[Record]:
    """Solved exemplars for the record's prompt out of `pool`, records of its task from the training side.

    `wanted.share` of the records get 1 to `wanted.most`, by seed and record; the others none. Never the record
    itself, nor one with the same input, whatever its case and white space.
    """
    if not pool:
        return []
    chance, number = _places(seed, record.id, "few-shot")[:2]
    if chance >= wanted.share:
        return []
    count, asked = 1 + int(number * wanted.most), _input(record)
    draws, left, chosen = int.from_bytes(_hash(seed, record.id, "exemplars")), list(pool), list[Record]()
    while left and len(chosen) < count:
        draws, place = divmod(draws, len(left))
        exemplar = left.pop(place)
        if exemplar.id != record.id and _input(exemplar) != asked:
            chosen.append(exemplar)
    return chosen


def _places(*key: object) -> tuple[float, ...]:
    """Four numbers from 0 to below 1 that depend on the key alone."""
    return tuple(number / 2**32 for number in struct.unpack_from("<4I", _hash(*key)))


def _hash(*key: object) -> bytes:
    """64 bytes; BLAKE2 over plain text, since SHA-256 over JSON takes several times as long."""
    return hashlib.blake2b("\0".join(map(str, key)).encode()).digest()


def _input(record: Record) -> list[str]:
    """What a record asks, without case and white space."""
    return [" ".join(text.lower().split()) for _, text in sorted(record.fields.items())]
