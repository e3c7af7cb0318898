"""What the training benchmark compares, each in a process of its own: python -m infra.bench_trainers NAME ...

Every one takes a step when a line comes in and answers it with a JSON line, so that steps of several are interleaved
on one machine while only one of them computes.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments, set_seed

from tasks import attention, model, params
from tasks.shards import Shards, read_shards
from tasks.train import operations, step
from tasks.train.__main__ import adapt

SEED = 17
LEARNING_RATE = 4e-4
COMPUTE = params.Compute(threads=2, dtype="bfloat16")
LORA = params.Lora()


class Turns(TrainerCallback):
    """Waits for a line before each optimiser step and tells its seconds, tokens and loss behind it."""

    def __init__(self) -> None:
        self.start, self.seen, self.told = 0.0, 0, {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the turn."""
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The step's figures."""
        seconds = time.perf_counter() - self.start
        self.told = {"seconds": seconds, "tokens": int(state.num_input_tokens_seen) - self.seen, "peak_gib": peak()}
        self.seen = int(state.num_input_tokens_seen)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """The loss is known; answer."""
        if logs and "loss" in logs:
            tell(self.told | {"loss": logs["loss"]})


def ours(base: Path, shards: Path, rows_per_step: int) -> None:
    """This project's step, on packed rows."""
    rows = step.Rows(read_shards(shards))
    set_seed(SEED)
    adapted = adapt(model.load_base(base, COMPUTE, attention.NAME), LORA)
    arguments = TrainingArguments(
        per_device_train_batch_size=rows_per_step,
        remove_unused_columns=False,
        include_num_input_tokens_seen="all",
        **common(),
    )
    train(step.PackedTrainer(COMPUTE.threads, model=adapted, args=arguments, train_dataset=rows))


def trl(base: Path, shards: Path, options: dict[str, Any]) -> None:
    """TRL's SFTTrainer with `options` over its defaults, on the same rows: packed where it packs, else sequences."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(COMPUTE.threads)
    set_seed(SEED)
    packed = read_shards(shards)
    content = packed_rows(packed) if options.get("packing") else sequences(packed)
    arguments = SFTConfig(
        dataset_kwargs={"skip_prepare_dataset": True},
        # Packed rows hold nothing else; in padded ones the mask tells the real tokens.
        include_num_input_tokens_seen="all" if options.get("packing") else "non_padding",
        **options,
        **common(),
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=LORA.r, lora_alpha=LORA.alpha, lora_dropout=0.0, target_modules=LORA.target_modules
    )
    rows = datasets.Dataset.from_list(content)
    train(SFTTrainer(model=str(base), args=arguments, train_dataset=rows, peft_config=lora))


def common() -> dict[str, Any]:
    """What all trainers are told alike."""
    return {
        "output_dir": "build/bench/train",
        "max_steps": 1_000,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "seed": SEED,
        "data_seed": SEED,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }


def train(trainer: Any) -> None:
    """Train as long as turns come in."""
    for one in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(one)
    trainer.add_callback(Turns())
    tell({"ready": True})
    trainer.train()


def packed_rows(packed: Shards) -> list[dict[str, Any]]:
    """The rows as TRL's own packing would give them, in the form of its collator."""
    rows = (packed.row(number) for number in range(len(packed)))
    return [labelled(row["ids"], row["supervised"]) | {"seq_lengths": row["lengths"].tolist()} for row in rows]


def sequences(packed: Shards) -> list[dict[str, Any]]:
    """Each sequence by itself."""
    spans = [slice(start, end) for start, end in pairwise(packed.boundaries.tolist())]
    return [labelled(packed.tokens[span], packed.supervised[span]) for span in spans]


def labelled(ids: Any, supervised: Any) -> dict[str, Any]:
    """Token ids, and labels where they are learnt."""
    pairs = zip(ids.tolist(), supervised.tolist(), strict=True)
    return {"input_ids": ids.tolist(), "labels": [token if learnt else -100 for token, learnt in pairs]}


def matrix(base: Path, shards: Path) -> None:
    """The rate of a step's own matrix products in bfloat16: each weight's forward product and input gradient."""
    loaded, packed = model.load_base(base, COMPUTE), read_shards(shards)
    tokens = packed.index["tokens"] // len(packed)
    supervised = packed.index["supervised_tokens"] // len(packed)
    head = loaded.get_output_embeddings()
    layers = [(one.weight, tokens) for one in loaded.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    inputs = {width: torch.randn(tokens, width).bfloat16() for weight, _ in layers for width in weight.shape}
    inputs[head.weight.shape[0]] = torch.randn(supervised, head.weight.shape[0]).bfloat16()
    tell({"ready": True, "operations_per_token": operations.per_token(loaded, packed)})
    with torch.inference_mode():
        while sys.stdin.readline():
            start = time.perf_counter()
            for weight, rows in [*layers, (head.weight, supervised)]:
                inputs[weight.shape[1]][:rows] @ weight.T
                inputs[weight.shape[0]][:rows] @ weight
            done = 4 * sum(weight.numel() * rows for weight, rows in [*layers, (head.weight, supervised)])
            tell({"rate": done / (time.perf_counter() - start)})


def peak() -> float:
    """The most memory that this process held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def tell(told: dict[str, Any]) -> None:
    """Answer with a JSON line."""
    print(json.dumps(told), flush=True)


PEERS: dict[str, Callable[..., None]] = {"ours": ours, "trl": trl, "matrix": matrix}

if __name__ == "__main__":
    name, base, shards, *rest = sys.argv[1:]
    PEERS[name](Path(base), Path(shards), *map(json.loads, rest))
