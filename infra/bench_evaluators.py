"""What the evaluation benchmark compares, each in a process of its own: python -m infra.bench_evaluators NAME ...

Either scores the benchmarks when a line with its wishes comes in, and answers with seconds and every log-likelihood.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tasks import model, params
from tasks.chat import Chat
from tasks.evaluate.scorer import Scorer


def serve(name: str, base: Path, folder: Path, number_format: Any) -> None:
    """Load the model and take turns. A turn's time is lm-eval's from documents to metrics, without their loading."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    loaded = model.load_base(base, params.Compute(threads=2, dtype=number_format)).eval()
    tokenizer = Chat.load(base).tokenizer
    scorer = Scorer(loaded, tokenizer, 1) if name == "ours" else HFLM(pretrained=loaded, tokenizer=tokenizer)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    loaded_tasks = tasks.load(sorted(tasks.all_tasks))
    tell({"ready": True})
    for line in sys.stdin:
        tell(turn(scorer, loaded_tasks, **json.loads(line)))


def turn(scorer: Any, tasks: Any, shots: int, documents: int, batch_size: int = 1) -> dict[str, Any]:
    """Score the first `documents` of each benchmark. `batch_size` is stock lm-eval's."""
    scorer.batch_size_per_gpu = batch_size
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", shots)
    start = time.perf_counter()
    results = evaluator.evaluate(scorer, tasks, limit=documents, bootstrap_iters=0)
    seconds = time.perf_counter() - start
    rows = [row for name in sorted(results["samples"]) for row in results["samples"][name]]
    scores = [[float(response[0]) for response in row["filtered_resps"]] for row in rows]
    return {"seconds": seconds, "documents": len(rows), "scores": scores}


def tell(told: dict[str, Any]) -> None:
    """Answer with a JSON line."""
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    name, base, folder, number_format = sys.argv[1:]
    serve(name, Path(base), Path(folder), number_format)
