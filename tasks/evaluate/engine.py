"""The model as it computes packed batches: under the attention of attention.py, logits only where asked."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from threading import local
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from tasks.evaluate import attention
from tasks.evaluate.attention import Chains, Layer, OtherAttentionError, Rows
from tasks.threads import Threads

BATCH_TOKENS = 1_024
"""Rows computed together: enough for the matrix products' full speed, few enough to stay in the cache."""


class Engine:
    """A causal language model of transformers."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model, self.device = model, device
        self.threads = Threads(torch.get_num_threads() if device.type == "cpu" else 1)
        self._known = local()
        self.model.base_model.forward = self._given(self.model.base_model.forward)

    def _given(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """The body's forward, which gives what this thread knows already instead; see `logits`."""

        @functools.wraps(compute)
        def forward(*args: Any, **options: Any) -> Any:
            return self._known.__dict__.get("out") or compute(*args, **options)

        return forward

    @contextlib.contextmanager
    def plain_attention(self) -> Iterator[None]:
        """Within it the model attends as attention.py says. Where it cannot, that is told and raised."""
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation(attention.NAME)
        try:
            yield
        except OtherAttentionError:
            print("the model's attention is not the plain one, so lm-eval's own way is taken", flush=True)
            raise
        finally:
            self.model.set_attn_implementation(usual)

    def prefix(self, ids: list[int]) -> list[Layer]:
        """The keys and values of a prefix's tokens in each layer; none where it has no token."""
        if not ids:
            return []
        chains = self.chains([range(-1, len(ids) - 1)], keep=True)
        self.body(ids, list(range(len(ids))), chains)
        return chains.layers

    def chains(self, parents: Sequence[Sequence[int]], prefix: Sequence[Layer] = (), keep: bool = False) -> Chains:
        """The paths of a batch's rows, in this model's number format and on its device."""
        return Chains(parents, self.model.dtype, self.device, prefix, keep)

    def body(self, ids: list[int], depths: list[int], rows: Rows) -> BaseModelOutput:
        """What the model's body makes of a batch's rows, given by their tokens and positions."""
        out: BaseModelOutput = self.model.base_model(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=torch.tensor([depths], device=self.device),
            rows=rows,
            use_cache=False,
        )
        return out

    def logits(self, out: BaseModelOutput, rows: torch.Tensor) -> torch.Tensor:
        """The logits of some rows of the body's output, (rows, vocabulary), as the model itself makes them of it.

        Behind the body some models scale or bend them; so it runs whole, with a body that gives what is known already.
        """
        self._known.out = type(out)(last_hidden_state=out[0][:, rows.to(self.device)])
        try:
            logits: torch.Tensor = self.model(input_ids=torch.zeros(1, len(rows), dtype=torch.long)).logits
        finally:
            del self._known.out
        return logits[0]
