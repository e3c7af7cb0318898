"""The tokens of texts, as the tokenizer of a file gives them, in a third of its time where that can be had exactly.

Byte-level BPE is also what tiktoken computes. A tokenizer merges the pair that stands first in its list of merges,
tiktoken the two neighbours that make the token of the lowest id. That comes to the same where the list makes each token
once, in the order of the ids, and makes every token from its own text: inside a stretch at whose ends nothing was
merged both went the way of that text alone, so the last two parts are those of the list too. These conditions are
checked; a tokenizer that does not meet them, or divides text in no way that is known here, encodes by itself.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import compress
from pathlib import Path
from typing import Any

import tiktoken
from tokenizers import Tokenizer

Encode = Callable[[list[str]], list[list[int]]]

_GPT_2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""How `ByteLevel` divides text (Radford et al. 2019), in the form of which tiktoken says that it is the fastest."""

_LONE_DIGITS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s+(?![^\s\p{N}])|\s"
"""The same behind `Digits`, which divides text at every digit first."""


@cache
def load(path: Path) -> Encode:
    """The encoder of a tokenizer file, on one thread, reading names of special tokens in a text as characters."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # every core has a process of its own
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return fastest(tokenizer)


def fastest(tokenizer: Tokenizer) -> Encode:
    """tiktoken, beside the tokenizer for texts that tiktoken would not encode as it does; or the tokenizer alone."""

    def slow(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    described = json.loads(tokenizer.to_str())
    encoding = byte_pairs(described, tokenizer)
    if encoding is None:
        return slow
    is_odd = _odd(described)

    def fast(texts: list[str]) -> list[list[int]]:
        odd = [bool(is_odd(text)) for text in texts]
        left = iter(slow(list(compress(texts, odd))))
        return [next(left) if other else encoding.encode_ordinary(text) for text, other in zip(texts, odd, strict=True)]

    return fast


def byte_pairs(described: dict[str, Any], tokenizer: Tokenizer) -> tiktoken.Encoding | None:
    """The tokenizer, described by its file, as tiktoken has it; None where tiktoken might give other tokens."""
    pattern = _pattern(described)
    ranks = _ranks(described, tokenizer) if pattern else None
    if pattern is None or ranks is None:
        return None
    return tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def _pattern(described: dict[str, Any]) -> str | None:
    """The expression by which the tokenizer divides text, where that is one of the known ways."""
    known = described["pre_tokenizer"] or {}
    match known.get("pretokenizers", [known]):
        case [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return _GPT_2
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
        ]:
            return _LONE_DIGITS
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]:
            return str(pattern)
    return None


def _odd(described: dict[str, Any]) -> Callable[[str], object]:
    """Tells which texts the tokenizer changes, divides or takes characters from before it comes to merging."""
    parts = [re.escape(token["content"]) for token in described["added_tokens"] if not token["special"]]
    if described["normalizer"]:  # NFC, which leaves ASCII as it is
        parts.append(r"[^\x00-\x7f]")
    lost = [f"{first}-{last}" for first, last in map(_begun_by, _missing(described)) if first]
    return re.compile("|".join([*parts, f"[{''.join(lost)}]"] if lost else parts or ["(?!)"])).search


def _ranks(described: dict[str, Any], tokenizer: Tokenizer) -> dict[bytes, int] | None:
    """The id of each token's bytes, where tiktoken merges by them as the model does by its list."""
    model, letters, missing = described["model"], _letters(), _missing(described)
    plain = model["type"] == "BPE" and not any(model.get(key) for key in _CHANGES_MERGING)
    if (
        not plain
        or described["normalizer"] not in (None, {"type": "NFC"})
        or any(0x80 <= byte < 0xC0 for byte in missing)
    ):
        return None
    added = {token["content"] for token in described["added_tokens"]}
    tokens = {name: number for name, number in model["vocab"].items() if name not in added}
    made = ["".join(pair if isinstance(pair, list) else pair.split(" ")) for pair in model["merges"]]
    ids = [model["vocab"][name] for name in made]
    if ids != sorted(set(ids)) or not tokens.keys() - set(made) <= letters.keys():
        return None
    if any(len(tokenizer.model.tokenize(name)) > 1 for name in made):
        return None
    ranks = {bytes(letters[letter] for letter in name): number for name, number in tokens.items()}
    # tiktoken wants all bytes. The missing ones stand in odd texts alone, which it does not get.
    return ranks | {bytes([byte]): len(model["vocab"]) + byte for byte in missing}


def _missing(described: dict[str, Any]) -> list[int]:
    """The bytes that have no token; the tokenizer leaves them out."""
    return [byte for letter, byte in _letters().items() if letter not in described["model"]["vocab"]]


def _begun_by(byte: int) -> tuple[str, str]:
    """The first and the last character whose UTF-8 begins with a byte; empty where there is none."""
    if byte < 0x80:
        return re.escape(chr(byte)), re.escape(chr(byte))
    lead, bits, least = next(kind for kind in _LEADS if byte >= kind[0])
    first = max(least, (byte - lead) << bits)
    last = min(((byte - lead + 1) << bits) - 1, sys.maxunicode)
    return (chr(first), chr(last)) if first <= last else ("", "")


_LEADS = ((0xF0, 18, 0x10000), (0xE0, 12, 0x800), (0xC0, 6, 0x80))
"""UTF-8's characters of several bytes (RFC 3629): lead byte, bits that follow it, least code point."""

_CHANGES_MERGING = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")


@cache
def _letters() -> dict[str, int]:
    """The byte that each letter of byte-level BPE stands for; bytes without a picture have letters from U+0100 on."""
    pictures = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in pictures]
    return {chr(byte): byte for byte in pictures} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
