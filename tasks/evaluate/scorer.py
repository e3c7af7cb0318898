"""lm-eval's Hugging Face model, faster: what requests share is computed once, and nothing is padded.

Questions with the same beginning (a system message, exemplars) share its keys and values, a question's choices share
its context, and no question sees another. Generation, where it takes the likeliest token, reads its prompts the same
way and drops an answer that has ended. Everything else, the metrics too, is lm-eval's own, and so is all of it for a
model whose attention is not the plain one.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import torch
from lm_eval.models.huggingface import HFLM

from tasks import console, norm
from tasks.evaluate import generation, packed, ranking
from tasks.evaluate.attention import OtherAttentionError
from tasks.evaluate.engine import BATCH_TOKENS, Engine
from tasks.evaluate.layout import Question, Request, ask


class Prompts(NamedTuple):
    """A batch of lm-eval's to generate from: token ids and their mask, (prompts, longest), and what ends an answer."""

    ids: torch.Tensor
    mask: torch.Tensor
    max_length: int
    stop: list[str]
    options: dict[str, Any]


class Elsewhere(Protocol):
    """Where batches are computed, if not in this process: one for one, in order."""

    def ranked(self, batches: Iterable[ranking.Batch]) -> Iterator[list[list[ranking.Answer]]]:
        """As `ranking.scored`."""

    def generated(self, batches: Iterable[Prompts]) -> Iterator[torch.Tensor]:
        """As `Scorer.generated_ids`."""


class Scorer(HFLM):  # type: ignore[misc]
    """HFLM that shares what requests have in common. With `add_bos_token` off a prompt is encoded as in training: the
    chat template alone decides about BOS."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int, elsewhere: Elsewhere | None = None) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, add_bos_token=False)
        self.elsewhere = elsewhere
        self._noted: list[Prompts] | None = None
        self._made: Iterator[torch.Tensor] = iter(())
        norm.fuse(self.model.requires_grad_(False), norm.SameNorm)
        packed.pack(self.model, BATCH_TOKENS)
        self.engine = Engine(self.model, self.device)
        self.generated = 0

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar: this class tells its progress itself."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar.

        It asks for one batch after the other; so that they can be made elsewhere side by side, the first time it asks
        they are only noted.
        """
        if self.elsewhere:
            self._noted = []
            super().generate_until(requests, disable_tqdm=True)
            self._made, self._noted = self.elsewhere.generated(self._noted), None
        answers = super().generate_until(requests, disable_tqdm=True)
        next(self._made, None)  # behind the last one: it ends what made them
        return answers

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[ranking.Answer]:
        """The log-likelihood of each request's choice after its context, and whether it is the greedy one."""
        answers: list[ranking.Answer] = [(0.0, False)] * len(requests)
        questions = ask(requests, self.max_length)
        batches = ranking.batched(questions)
        try:
            with self.engine.plain_attention():
                made = self.elsewhere.ranked(batches) if self.elsewhere else ranking.scored(self.engine, batches)
                told = itertools.chain.from_iterable(map(_with_questions, batches, made))
                for question, scores in console.track(told, "ranking", len(questions)):
                    for place, answer in zip(question.places, scores, strict=True):
                        answers[place] = answer
        except OtherAttentionError:
            answers = super()._loglikelihood_tokens(requests, disable_tqdm=True)
        return answers

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], attention_mask: Any = None, **options: Any
    ) -> torch.Tensor:
        """One batch of prompts with their answers, as lm-eval wants it back; told to whoever waits."""
        batch = Prompts(context, attention_mask, max_length, stop, options)
        if self._noted is not None:
            self._noted.append(batch)
            return context
        ids = next(self._made).to(context.device) if self.elsewhere else self.generated_ids(batch)
        self.generated += len(context)
        print(f"generating: {self.generated} answers", flush=True)
        return ids

    def generated_ids(self, batch: Prompts) -> torch.Tensor:
        """The prompts with their answers behind them, (prompts, longest)."""
        if generation.greedy(self.model, batch.options):
            with suppress(OtherAttentionError), self.engine.plain_attention():
                prompts = [row[seen.bool()].tolist() for row, seen in zip(batch.ids, batch.mask, strict=True)]
                answers = self._answers(prompts, batch.max_length - batch.ids.shape[1], batch.stop)
                return torch.cat([batch.ids, answers], 1)
        ids: torch.Tensor = super()._model_generate(
            batch.ids, batch.max_length, batch.stop, attention_mask=batch.mask, **batch.options
        )
        return ids

    def _answers(self, prompts: list[list[int]], new_tokens: int, stop: list[str]) -> torch.Tensor:
        """The greedy answers, padded behind their ends: (prompts, longest)."""
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]

        def ended(answer: list[int]) -> bool:
            return answer[-1] in ends or any(text in self.tokenizer.decode(answer) for text in stop)

        answers = generation.answer(self.engine, prompts, new_tokens, ended)
        longest = max(map(len, answers))
        padded = [answer + [self.tokenizer.pad_token_id] * (longest - len(answer)) for answer in answers]
        return torch.tensor(padded, device=self.device)


def _with_questions(
    batch: ranking.Batch, scores: list[list[ranking.Answer]]
) -> Iterator[tuple[Question, list[ranking.Answer]]]:
    return zip(batch.questions, scores, strict=True)
