"""python -m tasks.evaluate run MODEL SUITE: score a model zero-shot on a suite of benchmarks with lm-eval.

MODEL is `base`, or the folder name of an adapter in models/ (`tuned`). Every benchmark is a YAML of lm-eval, so the
stock `lm_eval` command can score it too.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import lm_eval
import typer
from lm_eval import evaluator
from lm_eval.tasks import TaskManager

from tasks import console, errors, guards, model, outputs, params
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.evaluate.scorer import Scorer
from tasks.records import write_lines

# lm-eval tells of every default that it takes; what matters of them is decided here and tested.
logging.getLogger("lm_eval").setLevel(logging.ERROR)

# It also asks git and half a dozen programs about the machine, which takes seconds and complains where nothing was
# committed yet; no result keeps the answers.
evaluator.get_git_commit_hash = lambda: None
evaluator.add_env_info = lambda results: None

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Score a model."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="`base`, or an adapter's folder in models/.", metavar="MODEL")],
    suite: Annotated[str, typer.Argument(help="A folder of benchmark YAMLs in BENCHMARKS.")],
    benchmarks: Path = Path("data/render/benchmarks"),
    models: Path = Path("models"),
    out: Annotated[Path | None, typer.Option(help="reports/evaluate/MODEL/SUITE by default.")] = None,
) -> None:
    """Write metrics.json (scores by benchmark) and samples.jsonl (each document's answer) to OUT."""
    wanted, chat = params.load(), Chat.load(models / "base")
    with console.timed(f"evaluate@{name}-{suite}"):
        loaded = model.load_base(models / "base", wanted.compute)
        if name != "base":
            loaded = model.apply_adapter(loaded, models / name)
            guards.same_chat(model.trained_chat(models / name), chat.hash)
        results = score(loaded, chat, benchmarks / suite, wanted)
        metrics, samples = distil(results)
        folder = out or Path("reports/evaluate") / name / suite
        with outputs.whole(folder / "metrics.json") as scratch:
            outputs.write_json(scratch, metrics)
        with outputs.whole(folder / "samples.jsonl") as scratch:
            write_lines(scratch, samples)
    rows = {benchmark: "  ".join(f"{k} {v:.3f}" for k, v in scores.items()) for benchmark, scores in metrics.items()}
    console.summary(f"{name} on {suite}, in {folder}", rows)


def score(loaded: Any, chat: Chat, folder: Path, wanted: params.Params) -> dict[str, Any]:
    """lm-eval's own results of the benchmarks in `folder`, prompted in the chat template.

    Raises UserError where the folder holds no benchmark.
    """
    names = [path.stem for path in sorted(folder.glob("*.yaml"))]
    if not names:
        raise UserError(f"{folder}: no benchmark YAML here; run: dvc repro render")
    results = lm_eval.simple_evaluate(
        model=Scorer(loaded, chat.tokenizer, wanted.evaluate.batch_size),
        tasks=[f"{folder.name}_{name}" for name in names],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=True,
        system_instruction=chat.system_message,
        gen_kwargs={"max_gen_toks": wanted.evaluate.new_tokens},
        log_samples=True,
        bootstrap_iters=0,
    )
    return dict(results or {})


def distil(results: dict[str, Any]) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Scores by benchmark, and one row for each document, without anything that depends on time or place."""
    metrics: dict[str, dict[str, float]] = {}
    samples: list[dict[str, Any]] = []
    for benchmark, rows in sorted(results["samples"].items()):
        answers = [_answer(benchmark, row) for row in sorted(rows, key=lambda row: row["doc_id"])]
        scores = [name for name in ("accuracy", "exact_match", "valid_answer") if name in answers[0]]
        metrics[benchmark] = {name: round(sum(row[name] for row in answers) / len(answers), 6) for name in scores}
        samples += answers
    return metrics, samples


def _answer(benchmark: str, row: dict[str, Any]) -> dict[str, Any]:
    """One document's result: by rank the choice taken; by generation the text, and whether it is one of the choices."""
    document = row["doc"]
    told = {"benchmark": benchmark, "document": document["id"], "template": document["template"]}
    if "acc" in row:
        ranked = [float(response[0]) for response in row["filtered_resps"]]
        taken = document["choices"][ranked.index(max(ranked))]
        return {**told, "answer": taken, "expected": document["answer"], "accuracy": int(row["acc"])}
    text = str(row["filtered_resps"][0]).strip()
    return {
        **told,
        "answer": text,
        "expected": document["answer"],
        "exact_match": int(row["exact_match"]),
        "valid_answer": int(_plain(text) in {_plain(choice) for choice in document["choices"]}),
    }


def _plain(text: str) -> str:
    """Text as lm-eval's exact match compares it here: without case and punctuation."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace()).strip()


if __name__ == "__main__":
    errors.run(app)
