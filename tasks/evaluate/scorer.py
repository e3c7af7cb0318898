"""lm-eval's Hugging Face model with a faster log-likelihood: a question's context is computed once for all its choices.

A question is laid out as one sequence, context then choices. A choice sees the context and itself, and its positions
go on from the context's end, so it is scored as if it stood alone. Questions are joined without padding, and logits
are computed only where a choice's token is predicted. Everything else, the metrics too, is lm-eval's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from tasks import attention, console

Request = tuple[tuple[str, str], list[int], list[int]]
"""lm-eval's form of a log-likelihood request: (texts, context ids, choice ids)."""

BATCH_TOKENS = 4_096
"""Tokens computed together."""


@dataclass(frozen=True)
class Question:
    """A context and its choices; `places` are these requests' positions in lm-eval's order."""

    context: list[int]
    choices: list[list[int]]
    places: list[int]

    def ids(self) -> list[int]:
        """Context and choices end to end. A choice's last token predicts nothing and is left out."""
        return self.context + [token for choice in self.choices for token in choice[:-1]]

    def starts(self) -> list[int]:
        """Where each choice begins in `ids`."""
        starts = [len(self.context)]
        for choice in self.choices[:-1]:
            starts.append(starts[-1] + len(choice) - 1)
        return starts

    def positions(self) -> list[int]:
        """Position ids: each choice goes on where the context ends."""
        context = len(self.context)
        return [*range(context), *(context + place for choice in self.choices for place in range(len(choice) - 1))]

    def predicting(self) -> list[int]:
        """The places in `ids` that predict each choice's tokens, choice by choice."""
        places = []
        for start, choice in zip(self.starts(), self.choices, strict=True):
            places += [len(self.context) - 1, *range(start, start + len(choice) - 1)]
        return places

    def visible(self) -> torch.Tensor:
        """(length, length): causal, and a choice does not see the choices before it."""
        length = len(self.ids())
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        for start, choice in zip(self.starts(), self.choices, strict=True):
            seen[start : start + len(choice) - 1, len(self.context) : start] = False
        return seen


class Scorer(HFLM):  # type: ignore[misc]
    """HFLM that shares each context. With `add_bos_token` off a prompt is encoded as in training: the chat template
    alone decides about BOS."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, add_bos_token=False)
        self.generated = 0

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar: this class tells its progress itself."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar."""
        return super().generate_until(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each request's choice after its context, and whether it is the greedy one."""
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        questions = group(requests, self.max_length)
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation(attention.NAME)
        try:
            for batch in console.track(list(batches(questions)), "ranking batches"):
                for question, scored in zip(batch, self._score(batch), strict=True):
                    for place, answer in zip(question.places, scored, strict=True):
                        answers[place] = answer
        finally:
            self.model.set_attn_implementation(usual)
        return answers

    def _model_generate(self, context: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        """lm-eval's generation of one batch, told to whoever waits."""
        ids: torch.Tensor = super()._model_generate(context, *args, **options)
        self.generated += len(context)
        print(f"generating: {self.generated} answers", flush=True)
        return ids

    @torch.inference_mode()
    def _score(self, batch: list[Question]) -> Iterator[list[tuple[float, bool]]]:
        """The answers of each question of a batch, choice by choice."""
        ids = [question.ids() for question in batch]
        ends = torch.tensor([0, *map(len, ids)]).cumsum(0)
        predicting = [
            start + place
            for question, start in zip(batch, ends.tolist(), strict=False)
            for place in question.predicting()
        ]
        logits = self.model(
            input_ids=torch.tensor([[token for row in ids for token in row]], device=self.device),
            position_ids=torch.tensor([[place for row in batch for place in row.positions()]], device=self.device),
            cu_seq_lens_q=ends.to(torch.int32),
            visible=[question.visible().to(self.device) for question in batch],
            use_cache=False,
            logits_to_keep=torch.tensor(predicting, device=self.device),
        ).logits[0]
        targets = torch.tensor([token for row in batch for choice in row.choices for token in choice])
        logits, targets = logits.float(), targets.to(self.device)
        wanted = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)
        greedy = logits.argmax(1) == targets
        start = 0
        for question in batch:
            scored = []
            for choice in question.choices:
                span = slice(start, start + len(choice))
                scored.append((float(wanted[span].sum()), bool(greedy[span].all())))
                start += len(choice)
            yield scored


def group(requests: list[Request], max_length: int) -> list[Question]:
    """Requests with equal contexts as one question each; a context that is too long loses its beginning."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, (_, context, _) in enumerate(requests):
        places.setdefault(tuple(context), []).append(place)
    questions = []
    for shared, own in places.items():
        choices = [list(requests[place][2]) for place in own]
        room = max_length - max(map(len, choices))
        questions.append(Question(list(shared)[-room:], choices, own))
    return questions


def batches(questions: list[Question]) -> Iterator[list[Question]]:
    """Questions in batches of at most BATCH_TOKENS tokens, the longest first."""
    batch: list[Question] = []
    size = 0
    for question in sorted(questions, key=lambda question: -len(question.ids())):
        length = len(question.ids())
        if batch and size + length > BATCH_TOKENS:
            yield batch
            batch, size = [], 0
        batch.append(question)
        size += length
    if batch:
        yield batch
