"""The fast encoder gives the tokenizer's own tokens, and is not taken where it could not."""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tasks.pack import encoder
from tests import tiny

LATER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the tokenizers of later models divide text."""

NO_TOKEN = ("Ą", "ñ")
"""The letters of the bytes 0x04 and 0xF1, which most vocabularies lack."""


def byte_level(use_regex: bool = True) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


DIVIDED: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "at words": byte_level,
    "at digits": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
    "by an expression": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LATER), "isolated"), byte_level(use_regex=False)]
    ),
}

TEXTS = st.text() | st.lists(
    st.sampled_from(
        [
            "they're",
            " in",
            " 10",
            "20 ",
            "  ",
            "\n",
            "\t ",
            "…",
            "é",
            "e\u0301",
            "<tool>",
            "</s>",
            "日本",
            "\x04",
            "𞤀",
            "\U00050000",
        ]
    )
).map("".join)


@cache
def trained(divided: str = "at words") -> Tokenizer:
    """A byte-level tokenizer that divides text in this way."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = DIVIDED[divided]()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(NO_TOKEN)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tiny.texts(), trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def with_a_tool() -> Tokenizer:
    """A tokenizer with a token that texts may hold, and that takes the space before it too."""
    tokenizer = copy(trained())
    tokenizer.add_tokens([AddedToken("<tool>", lstrip=True)])
    return tokenizer


def composing() -> Tokenizer:
    """A tokenizer that makes one letter of a letter and its accent."""
    tokenizer = copy(trained())
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def copy(tokenizer: Tokenizer, **values: Any) -> Tokenizer:
    """The tokenizer with these values in its model."""
    described = json.loads(tokenizer.to_str())
    described["model"] |= values
    same = Tokenizer.from_str(json.dumps(described))
    same.encode_special_tokens = True
    return same


KINDS: dict[str, Callable[[], Tokenizer]] = {
    **{f"divided {name}": partial(trained, name) for name in DIVIDED},
    "with a tool": with_a_tool,
    "composing": composing,
}


@cache
def both(kind: str) -> tuple[encoder.Encode, encoder.Encode]:
    """The fast encoder of a kind of tokenizer, and the tokenizer's own."""
    tokenizer = KINDS[kind]()
    assert is_fast(tokenizer)
    return encoder.fastest(tokenizer), partial(own, tokenizer)


def is_fast(tokenizer: Tokenizer) -> bool:
    return encoder.byte_pairs(json.loads(tokenizer.to_str()), tokenizer) is not None


def own(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The tokenizer's tokens of the texts."""
    return [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(texts=st.lists(TEXTS))
def test_the_tokens_of_any_text_are_the_tokenizer_s(kind: str, texts: list[str]) -> None:
    fast, slow = both(kind)
    assert fast(texts) == slow(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_both_take_every_character_for_a_letter_a_number_a_space_or_none(kind: str) -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] != "C"]
    texts = ["".join(f"a{one}1{one}.{one} " for one in some) for some in sliced(characters, 500)]
    fast, slow = both(kind)
    assert fast(texts) == slow(texts)


def sliced(values: list[str], size: int) -> Iterator[list[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def test_merges_in_another_order_than_the_ids_are_left_to_the_tokenizer() -> None:
    merges = json.loads(trained().to_str())["model"]["merges"]
    tokenizer = copy(trained(), merges=[merges[1], merges[0], *merges[2:]])
    assert not is_fast(tokenizer)


def test_a_token_that_is_made_in_two_ways_is_left_to_the_tokenizer() -> None:
    vocabulary = {letter: place for place, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    vocabulary |= {"ab": 256, "bc": 257, "abc": 258}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]))
    tokenizer.pre_tokenizer = byte_level()
    assert not is_fast(tokenizer)


def test_a_token_that_is_not_made_from_its_own_text_is_left_to_the_tokenizer() -> None:
    vocabulary = {letter: place for place, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    vocabulary |= {"ab": 256, "bc": 257, "abc": 258}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("b", "c"), ("a", "bc")]))
    tokenizer.pre_tokenizer = byte_level()
    assert not is_fast(tokenizer)
    assert encoder.fastest(tokenizer)(["abc"]) == own(tokenizer, ["abc"]) == [[256, vocabulary["c"]]]


def test_a_tokenizer_of_another_kind_is_left_to_itself(tmp_path: Path) -> None:
    tokenizer = tiny.sentence_pieces(tmp_path).backend_tokenizer
    assert not is_fast(tokenizer)
    assert encoder.fastest(tokenizer)(["Good evening."]) == own(tokenizer, ["Good evening."])
