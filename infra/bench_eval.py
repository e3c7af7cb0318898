"""python -m infra.bench_eval: documents/s of evaluation beside stock lm-eval's, and whether the numbers are the same.

Both score the same documents of five public benchmarks under lm-eval's own prompts, on the same model, through the
same lm-eval; stock is its `hf` model at the batch size that a search finds fastest. At five shots every document of a
benchmark has the same exemplars (lm-eval's sampler `first_n`). All are processes that take turns, and medians count.
Writes build/bench/eval.json.
"""

import contextlib
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from infra import bench_eval_tasks
from infra.turns import ROOT, Peer
from tasks import errors, outputs
from tasks.errors import UserError

HOME = ROOT / "build" / "bench"
SIZES = {0: [4, 8, 16, 32], bench_eval_tasks.SHOTS: [1, 2, 4, 8]}
"""Batch sizes that are tried for stock lm-eval, by the number of exemplars."""

Turn = dict[str, Any]


def main(
    base: Annotated[Path, typer.Option(help="The base model's folder.")] = Path("models/base"),
    data: Annotated[Path, typer.Option(help="The benchmarks' documents, one NAME.jsonl each.")] = Path(
        "../shared/data/eval"
    ),
    documents: Annotated[int, typer.Option(help="Documents of each benchmark, a third at five shots.", min=8)] = 40,
    rounds: Annotated[int, typer.Option(help="Turns of each in bfloat16; two at five shots.", min=1)] = 3,
) -> None:
    """Measure evaluation beside stock lm-eval and write build/bench/eval.json."""
    if not (base / "source.json").is_file():
        raise UserError(f"{base}: no base model here yet; run: dvc repro fetch")
    bench_eval_tasks.write(data, HOME / "eval", documents)
    with peers(base, "bfloat16") as (ours, stock):
        few = documents // 3
        zero = versus(ours, stock, 0, documents, rounds)
        five = versus(ours, stock, bench_eval_tasks.SHOTS, few, 2)
        other = next(size for size in SIZES[0][::-1] if size != zero["batch_size"])
        itself = told(stock, shots=0, documents=documents, batch_size=other)
    with peers(base, "float32") as (ours, stock):
        exact = versus(ours, stock, 0, documents, 1, zero["batch_size"])
        shown = versus(ours, stock, bench_eval_tasks.SHOTS, 2, 1, five["batch_size"])
    outputs.write_json(HOME / "eval.json", speeds(zero, five) | parity(zero, exact, itself, shown))
    print((HOME / "eval.json").read_text(encoding="utf-8"))


@contextlib.contextmanager
def peers(base: Path, number_format: str) -> Any:
    """Ours and stock, ready and warm."""
    with contextlib.ExitStack() as running:
        both = []
        for name in ("ours", "stock"):
            options = (name, str(base), str(HOME / "eval"), number_format)
            peer = Peer("infra.bench_evaluators", *options, foreign=name == "stock")
            running.callback(peer.stop)
            told(peer, shots=0, documents=1)
            both.append(peer)
        yield both


def versus(ours: Peer, stock: Peer, shots: int, documents: int, rounds: int, size: int | None = None) -> dict[str, Any]:
    """Turns of both, ours first; stock at `size`, or at the batch size that is fastest on a quarter of them."""
    size = size or search(stock, shots, max(1, documents // 4))
    turns: dict[str, list[Turn]] = {"ours": [], "stock": []}
    for _ in range(rounds):
        turns["ours"].append(told(ours, shots=shots, documents=documents))
        turns["stock"].append(told(stock, shots=shots, documents=documents, batch_size=size))
    return {"batch_size": size, **turns}


def search(stock: Peer, shots: int, documents: int) -> int:
    """The batch size at which stock lm-eval is fastest."""
    seconds = {size: told(stock, shots=shots, documents=documents, batch_size=size)["seconds"] for size in SIZES[shots]}
    return min(seconds, key=seconds.__getitem__)


def told(peer: Peer, **asked: Any) -> Turn:
    """A turn, and a line about it."""
    turn = peer.turn(**asked)
    print(f"{peer.name} {asked}: {turn['documents']} documents in {turn['seconds']:.1f} s", flush=True)
    return turn


def speeds(zero: dict[str, Any], five: dict[str, Any]) -> dict[str, float]:
    """Documents/s of both, their ratios, and stock's batch sizes."""
    found: dict[str, float] = {}
    for ending, run in (("", zero), ("_5shot", five)):
        rates = {
            name: statistics.median(turn["documents"] / turn["seconds"] for turn in run[name])
            for name in ("ours", "stock")
        }
        found |= {
            f"documents_per_second{ending}": rates["ours"],
            f"documents_per_second_stock{ending}": rates["stock"],
            f"ratio_to_stock{ending}": rates["ours"] / rates["stock"],
            f"batch_size_stock{ending}": run["batch_size"],
        }
    return found


def parity(zero: dict[str, Any], exact: dict[str, Any], itself: Turn, shown: dict[str, Any]) -> dict[str, float]:
    """How far the numbers are stock's: in float32, and in bfloat16 beside stock's own at another batch size."""
    ours, stock = zero["ours"][0]["scores"], zero["stock"][0]["scores"]
    ours_exact, stock_exact = exact["ours"][0]["scores"], exact["stock"][0]["scores"]
    ours_shown, stock_shown = shown["ours"][0]["scores"], shown["stock"][0]["scores"]
    return {
        "documents": len(ours),
        "same_prediction": 1 - len(gaps(ours_exact, stock_exact)) / len(ours_exact),
        "largest_difference": max(differences(ours_exact, stock_exact)),
        "same_prediction_5shot": 1 - len(gaps(ours_shown, stock_shown)) / len(ours_shown),
        "largest_difference_5shot": max(differences(ours_shown, stock_shown)),
        "disagreements_bf16": len(gaps(ours, stock)),
        "disagreements_stock_with_itself": len(gaps(itself["scores"], stock)),
        "largest_gap_of_a_disagreement": max(gaps(ours, stock), default=0.0),
        "largest_gap_of_stock_with_itself": max(gaps(itself["scores"], stock), default=0.0),
        "disagreements_bf16_with_fp32": len(gaps(ours, stock_exact)),
        "disagreements_bf16_with_fp32_stock": len(gaps(stock, stock_exact)),
        "mean_difference_bf16_from_fp32": statistics.mean(differences(ours, stock_exact)),
        "mean_difference_bf16_from_fp32_stock": statistics.mean(differences(stock, stock_exact)),
    }


def differences(one: list[list[float]], two: list[list[float]]) -> list[float]:
    """By how much two log-likelihoods of the same choice differ, choice by choice."""
    return [abs(a - b) for first, second in zip(one, two, strict=True) for a, b in zip(first, second, strict=True)]


def gaps(one: list[list[float]], two: list[list[float]]) -> list[float]:
    """For each document of which either prefers another choice than the other does: by how much, at most.

    Stock lm-eval rounds sums in bfloat16, to a quarter where they are below -32: choices of equal score are no
    preference.
    """
    found = []
    for first, second in zip(one, two, strict=True):
        a, b = first.index(max(first)), second.index(max(second))
        if first[a] > first[b] and second[b] > second[a]:
            found.append(max(first[a] - first[b], second[b] - second[a]))
    return found


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
