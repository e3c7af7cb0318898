"""vLLM in place of this repository's scorer: lm-eval's own class for it, which needs a GPU. Nothing else imports it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.vllm_causallms import VLLM

from tasks import model
from tasks.chat import Chat
from tasks.evaluate.endings import Endings, ends_by_itself
from tasks.evaluate.parity import SEEDS
from tasks.params import Compute


class VllmScorer(VLLM):  # type: ignore[misc]
    """lm-eval's vLLM, which also remembers how each answer that it generates ends.

    With `add_bos_token` off a prompt is encoded as in training. vLLM itself decides how much it computes together.
    """

    def __init__(self, weights: Path, tokenizer: Path, number_format: torch.dtype, end_of_turn: int) -> None:
        super().__init__(
            pretrained=str(weights),
            tokenizer=str(tokenizer),
            dtype=str(number_format).removeprefix("torch."),
            add_bos_token=False,
            # All at once, as with `auto`, under which vLLM divides by its bar's seconds, even where bars are off.
            batch_size=sys.maxsize,
            seed=SEEDS["torch_random_seed"],
            trust_remote_code=False,
        )
        self.end_of_turn = end_of_turn
        self.endings: Endings = {}
        self._prompts: dict[tuple[int, ...], str] = {}

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar."""
        return super().generate_until(requests, disable_tqdm=True)

    def tok_encode(self, string: Any, *args: Any, **options: Any) -> Any:
        """lm-eval's; it is asked for all prompts together before any answer to them is generated."""
        ids = super().tok_encode(string, *args, **options)
        if not isinstance(string, str):
            self._prompts |= {tuple(own): prompt for own, prompt in zip(ids, string, strict=True)}
        return ids

    def _model_generate(self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None) -> Any:
        """lm-eval's generation of all answers, or its reading of all choices."""
        outputs = super()._model_generate(requests, generate, sampling_params)
        if generate:
            for ids, asked, output in zip(requests, sampling_params, outputs, strict=True):
                self.endings[self._prompt(ids), asked.max_tokens] = ends_by_itself(
                    output.outputs[0].token_ids, self.end_of_turn, asked.stop, self.tokenizer
                )
        return outputs

    def _prompt(self, ids: list[int]) -> str:
        """The prompt of these tokens; one that is too long for the model has lost its beginning."""
        if (whole := self._prompts.get(tuple(ids))) is not None:
            return whole
        return next(prompt for known, prompt in self._prompts.items() if known[-len(ids) :] == tuple(ids))


def load(base: Path, adapter: Path | None, chat: Chat, compute: Compute) -> VllmScorer:
    """The base model of a folder in vLLM, with the adapter merged into its weights where there is one."""
    # The engine reads them when it starts, in a process of its own: nothing is told or asked over the network.
    os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
    with merged(base, adapter, compute) as weights:
        return VllmScorer(weights, base, model.dtype(compute.dtype), chat.end_of_turn_id)


@contextmanager
def merged(base: Path, adapter: Path | None, compute: Compute) -> Iterator[Path]:
    """The folder of the weights that are scored: the base's own, or a scratch one for as long as they are read.

    vLLM can apply an adapter itself (lm-eval's `lora_local_path`), but then computes its products beside the base's,
    which rounds otherwise than the registered version, and refuses DoRA. The GPU is left to it: weights are merged on
    the CPU.
    """
    if adapter is None:
        yield base
        return
    with tempfile.TemporaryDirectory() as scratch:
        whole = model.load(base, adapter, compute, place=torch.device("cpu"))
        whole.save_pretrained(scratch, safe_serialization=True)
        del whole
        yield Path(scratch)
