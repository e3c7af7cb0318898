"""python -m infra.bench_train: real tokens/s of the training step beside TRL's SFTTrainer, on the same Alpaca rows.

All train the same adapter on the same token ids with the same sequences to a step, each in a process of its own, and
take turns step by step; medians count, and nobody's first step does. TRL runs at its defaults, and at the fastest of
the settings in `SETTINGS`, which a search finds first. The matrix rate is taken in turn with them. Writes
build/bench/train.json and train.png. TRL comes into a folder of its own under build/bench: nothing else needs it.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer

from infra import bench_alpaca
from infra.turns import ROOT, Peer
from tasks import errors, outputs
from tasks.errors import UserError
from tasks.shards import Shards

HOME = ROOT / "build" / "bench"
TRL = "1.16.0"
"""The peer's version, which goes with the locked transformers and peft."""

ROWS_PER_STEP = 3
"""Packed rows of an optimiser step; the sequences of as many rows for a trainer that does not pack."""

TUNED = {"packing": True, "gradient_checkpointing": False, "model_init_kwargs": {"dtype": "bfloat16"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "one row": TUNED | {"per_device_train_batch_size": 1, "bf16": True},
    "one row without autocast": TUNED | {"per_device_train_batch_size": 1, "bf16": False},
    "three rows": TUNED | {"per_device_train_batch_size": 3, "bf16": True},
    "unpacked": TUNED | {"packing": False, "per_device_train_batch_size": 8, "bf16": True},
}
"""What the search tries over TRL's defaults; in this version its loss is computed in chunks as it is."""


class Trainer(Peer):
    """A peer of infra/bench_trainers.py: a turn is a step."""

    def __init__(self, name: str, base: Path, shards: Shards, *options: Any) -> None:
        told = map(json.dumps, options)
        more: Any = {"folder": HOME / f"trl-{TRL}", "foreign": name != "ours"}
        super().__init__("infra.bench_trainers", name, str(base), str(shards.folder), *told, **more)
        self.steps: list[dict[str, Any]] = []

    def step(self) -> dict[str, Any]:
        """Let it take a step. Returns its figures."""
        self.steps.append(self.turn())
        return self.steps[-1]

    def speed(self) -> float:
        """The median of its real tokens/s, its first step apart."""
        return statistics.median(one["tokens"] / one["seconds"] for one in self.steps[1:])


def main(
    base: Annotated[Path, typer.Option(help="The base model's folder.")] = Path("models/base"),
    data: Annotated[Path, typer.Option(help="Alpaca rows, a JSON array.")] = Path(
        "../shared/data/train/alpaca_en_demo.json"
    ),
    rounds: Annotated[int, typer.Option(help="Steps of each; the first is not counted.", min=2)] = 7,
) -> None:
    """Measure the training step beside TRL's and write build/bench/train.json and train.png."""
    if not (base / "source.json").is_file():
        raise UserError(f"{base}: no base model here yet; run: dvc repro fetch")
    shards = bench_alpaca.shards(data, base, HOME / "alpaca")
    install()
    best = search(base, shards)
    per_step = round(ROWS_PER_STEP * shards.index["sequences"] / len(shards))
    with contextlib.ExitStack() as running:
        peers = {
            "ours": Trainer("ours", base, shards, ROWS_PER_STEP),
            "trl_best": Trainer("trl", base, shards, accumulated(SETTINGS[best], per_step)),
            "trl_default": Trainer("trl", base, shards, accumulated({}, per_step)),
            "matrix": Trainer("matrix", base, shards),
        }
        for peer in peers.values():
            running.callback(peer.stop)
        for number in range(rounds):
            # The default is so slow that half as many steps of it must do.
            for name, peer in peers.items():
                if name != "trl_default" or number % 2 == 0:
                    print(f"round {number + 1} of {rounds}: {name}: {peer.step()}", flush=True)
    outputs.write_json(HOME / "train.json", figures(peers) | {"rows_per_step": ROWS_PER_STEP})
    draw(peers, HOME / "train.png")
    print((HOME / "train.json").read_text(encoding="utf-8"))


def install() -> None:
    """TRL alone into a folder of its own; what it needs is locked already."""
    folder = HOME / f"trl-{TRL}"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, f"trl=={TRL}"], check=True)


def search(base: Path, shards: Shards) -> str:
    """The setting in which TRL takes the second of two steps fastest."""
    found = {}
    for name, options in SETTINGS.items():
        peer = Trainer("trl", base, shards, options)
        try:
            peer.step(), peer.step()
            found[name] = peer.speed()
        finally:
            peer.stop()
        print(f"TRL with {name}: {found[name]:.0f} tokens/s", flush=True)
    return max(found, key=found.__getitem__)


def accumulated(options: dict[str, Any], sequences: int) -> dict[str, Any]:
    """The same options with as much to a step as all take: packed rows, or about as many sequences as these hold."""
    together = ROWS_PER_STEP if options.get("packing") else sequences
    return options | {"gradient_accumulation_steps": round(together / options.get("per_device_train_batch_size", 8))}


def figures(peers: dict[str, Trainer]) -> dict[str, float]:
    """The result, flat: speeds, their ratios, the share of what the matrix rate would allow, and memory."""
    ours, best, default = (peers[name].speed() for name in ("ours", "trl_best", "trl_default"))
    rate = statistics.median(one["rate"] for one in peers["matrix"].steps[1:])
    floor = rate / peers["matrix"].ready["operations_per_token"]
    return {
        "tokens_per_second": ours,
        "tokens_per_second_trl_best": best,
        "tokens_per_second_trl_default": default,
        "tokens_per_second_floor": floor,
        "ratio_to_trl_best": ours / best,
        "ratio_to_trl_default": ours / default,
        "share_of_floor": ours / floor,
        "matrix_gflops": rate / 1e9,
        "peak_gib": peers["ours"].steps[-1]["peak_gib"],
        "peak_gib_trl_best": peers["trl_best"].steps[-1]["peak_gib"],
        "peak_gib_trl_default": peers["trl_default"].steps[-1]["peak_gib"],
    }


def draw(peers: dict[str, Trainer], path: Path) -> None:
    """The losses of all over the real tokens seen; ours and TRL's best take the same rows in the same order."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, label in {"ours": "instructflow", "trl_best": "TRL, best", "trl_default": "TRL, defaults"}.items():
        axes.plot(*zip(*curve(peers[name].steps), strict=True), marker="o", label=label)
    axes.set(xlabel="tokens seen", ylabel="loss of the step")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def curve(steps: list[dict[str, Any]]) -> Iterator[tuple[int, float]]:
    """(tokens seen, loss) behind each step."""
    seen = 0
    for one in steps:
        seen += one["tokens"]
        yield seen, one["loss"]


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
