"""How a result was measured: what must be equal for two results to be compared. No path, no clock."""

from importlib import metadata
from typing import Any

from tasks.chat import Chat
from tasks.params import Params
from tasks.records import digest

SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}
"""lm-eval's own defaults; of these only the choice of few-shot exemplars can change a result of greedy answers."""

LIBRARIES = ("lm_eval", "torch", "transformers", "peft", "tokenizers", "datasets")


def measured(results: dict[str, Any], chat: Chat, loaded: Any, wanted: Params) -> dict[str, Any]:
    """The chat, the numbers' format, the seeds, the versions, and each benchmark's content as a hash."""
    return {
        "chat": {"hash": chat.hash, "system_message": chat.system_message, "end_of_turn": chat.end_of_turn},
        "compute": {"threads": wanted.compute.threads, "dtype": str(loaded.dtype).removeprefix("torch.")},
        "batch_size": wanted.evaluate.batch_size,
        "seeds": SEEDS,
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "benchmarks": dict(sorted(_benchmark(task, results) for task in results["samples"])),
    }


def _benchmark(task: str, results: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """lm-eval's name of a task; the hash holds its documents, its prompts in their markup, and its right answers."""
    rows = sorted(results["samples"][task], key=lambda row: (row["doc_id"], row["filter"]))
    hashes = [[row["doc_hash"], row["prompt_hash"], row["target_hash"]] for row in rows]
    config = results["configs"][task]
    return task, {
        "hash": digest(hashes),
        "version": results["versions"][task],
        "documents": len({row["doc_id"] for row in rows}),
        "shots": results["n-shot"][task],
        "measures": sorted(metric["metric"] for metric in config.get("metric_list") or []),
        "generation": config.get("generation_kwargs") or {},
    }
