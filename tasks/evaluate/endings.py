"""How generated answers end: by the model's end of turn, or cut off at the limit or at a stop text of the benchmark."""

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.utils import normalize_gen_kwargs

from tasks.evaluate.scorer import Elsewhere, Scorer

Endings = dict[tuple[str, int], bool]
"""(prompt, most new tokens) -> whether the answer ended by the end of turn."""

DEFAULT_LIMIT = 256
"""lm-eval's limit of new tokens for a task that sets none."""


class Watched(Scorer):
    """The scorer, which also remembers how each answer that it generates ends."""

    def __init__(
        self, model: Any, tokenizer: Any, batch_size: int, end_of_turn: int, elsewhere: Elsewhere | None = None
    ) -> None:
        super().__init__(model, tokenizer, batch_size, elsewhere)
        self.end_of_turn = end_of_turn
        self.endings: Endings = {}
        self._prompts: Sequence[str] = ()

    def tok_batch_encode(self, strings: list[str], *args: Any, **options: Any) -> Any:
        """lm-eval's; it is asked for the prompts of a batch just before their answers are generated."""
        self._prompts = strings
        return super().tok_batch_encode(strings, *args, **options)

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], attention_mask: Any = None, **options: Any
    ) -> torch.Tensor:
        """lm-eval's generation of one batch."""
        ids = super()._model_generate(context, max_length, stop, attention_mask, **options)
        begins = context.shape[1]
        for prompt, row in zip(self._prompts, ids[:, begins:].tolist(), strict=True):
            self.endings[prompt, max_length - begins] = ends_by_itself(row, self.end_of_turn, stop, self.tokenizer)
        return ids


def ending(endings: Endings, prompt: str, options: dict[str, Any]) -> bool:
    """How the answer to a prompt ended that was generated under a benchmark's options."""
    return endings[prompt, normalize_gen_kwargs(dict(options), DEFAULT_LIMIT)["max_gen_toks"]]


def ends_by_itself(ids: Sequence[int], end_of_turn: int, stop: Sequence[str], tokenizer: Any) -> bool:
    """Whether the first end of turn comes within `ids`, before any stop text, be that a mere line break.

    A batch goes on until its last answer is done, so that there are more tokens after an answer's end, and the end of
    turn may be what pads them, also behind a stop text at which an answer was cut off.
    """
    if end_of_turn not in ids:
        return False
    answer = tokenizer.decode(ids[: ids.index(end_of_turn)], skip_special_tokens=False)
    return not any(text in answer for text in stop)
