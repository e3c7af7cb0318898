"""How a result was measured: what must be equal for two results to be compared. No path, no clock."""

from importlib import metadata
from typing import Any

from tasks import model
from tasks.chat import Chat
from tasks.params import Params
from tasks.records import digest

SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}
"""lm-eval's own defaults; of these only the choice of few-shot exemplars can change a result of greedy answers."""

LIBRARIES = ("lm_eval", "torch", "transformers", "peft", "tokenizers", "datasets")

BACKENDS = {"own": (), "vllm": ("vllm",)}
"""The libraries that compute in a backend besides."""


def measured(results: dict[str, Any], chat: Chat, wanted: Params) -> dict[str, Any]:
    """The backend, the chat, the numbers' format, the seeds, the versions, and each benchmark's content as a hash."""
    backend = wanted.evaluate.backend
    number_format = str(model.dtype(wanted.compute.dtype)).removeprefix("torch.")
    return {
        "backend": backend,
        "chat": {"hash": chat.hash, "system_message": chat.system_message, "end_of_turn": chat.end_of_turn},
        "compute": {"threads": wanted.compute.threads, "dtype": number_format},
        "batch_size": wanted.evaluate.batch_size,
        "seeds": SEEDS,
        "versions": {name: metadata.version(name) for name in (*LIBRARIES, *BACKENDS[backend])},
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
