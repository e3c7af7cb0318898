"""lm-eval's Hugging Face model, faster: what requests share is computed once, and nothing is padded.

Questions with the same beginning (a system message, exemplars) share its keys and values, a question's choices share
its context, and no question sees another. Generation, where it takes the likeliest token, reads its prompts the same
way and drops an answer that has ended. Everything else, the metrics too, is lm-eval's own, and so is all of it for a
model whose attention is not the plain one.
"""

from contextlib import suppress
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from tasks import console, norm
from tasks.evaluate import generation, packed, ranking
from tasks.evaluate.attention import OtherAttentionError
from tasks.evaluate.engine import BATCH_TOKENS, Engine
from tasks.evaluate.layout import Request, ask


class Scorer(HFLM):  # type: ignore[misc]
    """HFLM that shares what requests have in common. With `add_bos_token` off a prompt is encoded as in training: the
    chat template alone decides about BOS."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, add_bos_token=False)
        norm.fuse(self.model.requires_grad_(False), norm.SameNorm)
        packed.pack(self.model, BATCH_TOKENS)
        self.engine = Engine(self.model, self.device)
        self.generated = 0

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar: this class tells its progress itself."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar."""
        return super().generate_until(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[ranking.Answer]:
        """The log-likelihood of each request's choice after its context, and whether it is the greedy one."""
        answers: list[ranking.Answer] = [(0.0, False)] * len(requests)
        questions = ask(requests, self.max_length)
        try:
            with self.engine.plain_attention():
                told = ranking.scored(self.engine, questions)
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
        ids = None
        if generation.greedy(self.model, options):
            with suppress(OtherAttentionError), self.engine.plain_attention():
                prompts = [row[seen.bool()].tolist() for row, seen in zip(context, attention_mask, strict=True)]
                ids = torch.cat([context, self._answers(prompts, max_length - context.shape[1], stop)], 1)
        if ids is None:
            ids = super()._model_generate(context, max_length, stop, attention_mask=attention_mask, **options)
        self.generated += len(context)
        print(f"generating: {self.generated} answers", flush=True)
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
