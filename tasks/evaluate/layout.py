"""What is computed once: a prefix for many questions, a context for its choices, and what choices begin with alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tasks.errors import UserError

Request = tuple[tuple[str, str], list[int], list[int]]
"""lm-eval's form of a log-likelihood request: (texts, context ids, choice ids)."""

WORTH = 256
"""Tokens that a shared prefix must spare: it is a small batch of its own, and its questions fill fewer batches well."""


@dataclass(frozen=True)
class Question:
    """A context and its choices, in the order of lm-eval's requests at `places`."""

    context: list[int]
    choices: list[list[int]]
    places: list[int]

    @cached_property
    def tree(self) -> "Tree":
        """The rows that this question takes in a batch."""
        return Tree(self)


class Tree:
    """A question's tokens as rows: its context, then each choice behind it, what choices share only once.

    A choice's last token predicts nothing and is no row. `ids`, `depths` and `parents` have an entry for each row:
    its token, its position, and the row before it. `asked` are pairs of a row and the token that it should predict,
    choice by choice.
    """

    def __init__(self, question: Question) -> None:
        length = len(question.context)
        self.ids, self.depths, self.parents = list(question.context), list(range(length)), list(range(-1, length - 1))
        self.asked: list[tuple[int, int]] = []
        known: dict[tuple[int, int], int] = {}
        for choice in question.choices:
            row = length - 1
            for token, last in zip(choice, [False] * (len(choice) - 1) + [True], strict=True):
                self.asked.append((row, token))
                if not last:
                    row = known.setdefault((row, token), len(self.ids))
                    if row == len(self.ids):
                        self._add(token, self.asked[-1][0])

    def _add(self, token: int, parent: int) -> None:
        self.ids.append(token)
        self.depths.append(self.depths[parent] + 1)
        self.parents.append(parent)


@dataclass(frozen=True)
class Group:
    """Questions whose contexts begin with the same `prefix`, which they hold no more."""

    prefix: list[int]
    questions: list[Question]


def ask(requests: list[Request], max_length: int) -> list[Question]:
    """Requests with equal contexts as one question each; as in lm-eval, what is too long loses its beginning.

    Raises UserError where a context or a choice has no token: a choice of none would be the likeliest.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, (texts, context, choice) in enumerate(requests):
        if not context or not choice:
            raise UserError(f"a benchmark ranks {texts[1]!r} behind {texts[0][-200:]!r}: one of them has no token")
        # The last token of a choice is no input, hence the one more.
        places.setdefault(tuple(context[-(max_length + 1 - len(choice)) :]), []).append(place)
    return [Question(list(context), [requests[place][2] for place in own], own) for context, own in places.items()]


def group(questions: list[Question]) -> list[Group]:
    """Questions by the prefix that they share. A prefix is split into longer ones where that spares tokens."""
    ordered = sorted(questions, key=lambda question: question.context)
    shared = [_common(one.context, two.context) for one, two in pairwise(ordered)]
    waiting, groups, single = [(0, len(ordered))], list[Group](), list[Question]()
    while waiting:
        start, end = waiting.pop()
        within = shared[start : end - 1]
        length = min(within, default=0)
        cuts = [start, *(start + place + 1 for place, common in enumerate(within) if common == length), end]
        parts = list(pairwise(cuts))
        if within and sum(_spared(shared[one : two - 1]) for one, two in parts) >= _spared(within):
            waiting += parts
        elif within:
            groups.append(_without_prefix(ordered[start:end], length))
        else:
            single += ordered[start:end]
    return [*groups, Group([], single)] if single else groups


def _spared(shared: list[int]) -> int:
    """The tokens that one prefix spares for questions of which neighbours share so many."""
    return max(0, min(shared, default=0) * len(shared) - WORTH)


def _common(one: list[int], two: list[int]) -> int:
    """How many tokens both begin with; the last of a context stays its own, for it predicts the choices."""
    most = min(len(one), len(two)) - 1
    return next((place for place in range(most) if one[place] != two[place]), most)


def _without_prefix(questions: list[Question], length: int) -> Group:
    rest = [Question(question.context[length:], question.choices, question.places) for question in questions]
    return Group(questions[0].context[:length], rest)


def batches(questions: list[Question], tokens: int) -> Iterator[list[Question]]:
    """Questions in batches of at most `tokens` rows, or one, the longest first.

    The last batches are smaller, so that threads which compute one each are done at about the same time.
    """
    batch: list[Question] = []
    size, left = 0, sum(len(question.tree.ids) for question in questions)
    for question in sorted(questions, key=lambda question: -len(question.tree.ids)):
        length = len(question.tree.ids)
        if batch and size + length > min(tokens, max(tokens // 4, left // 4)):
            yield batch
            batch, size, left = [], 0, left - size
        batch.append(question)
        size += length
    if batch:
        yield batch
