"""python -m tasks.evaluate run MODEL SUITE: score a model on a suite of benchmarks with lm-eval.

MODEL is `base`, or the folder name of an adapter in models/ (`tuned`). Every benchmark is a YAML of lm-eval, so the
stock `lm_eval` command can score it too.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import lm_eval
import typer
from lm_eval import evaluator

from tasks import console, errors, guards, model, outputs, params, settings, suites
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.evaluate import extra, parity, wordings
from tasks.evaluate.answers import Answers
from tasks.evaluate.endings import Watched
from tasks.records import write_lines

# lm-eval also asks git and half a dozen programs about the machine, which takes seconds and complains where nothing was
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
    """Write metrics.json (scores), samples.jsonl (each document's answer) and results.json (how measured) to OUT."""
    wanted, adapter = params.load(), None if name == "base" else model.adapter(models, name)
    if fault := extra.missing(wanted.evaluate.backend):
        raise UserError(fault)
    chat = Chat.load(models / "base")
    with console.timed(f"evaluate@{name}-{suite}"):
        found = suites.find(benchmarks / suite)
        if adapter is not None:
            guards.same_chat(model.trained_chat(adapter), chat.hash)
        scorer = load(models / "base", adapter, chat, wanted)
        results = score(scorer, chat, found, wanted)
        answers = Answers.read(results, suite, scorer.endings)
        guards.says_something(f"{name} on {suite}", answers.generated())
        folder = out or Path("reports/evaluate") / name / suite
        told = {"measured": parity.measured(results, chat, wanted), "templates": wordings.table(answers.rows)}
        with outputs.whole(folder / "metrics.json") as scratch:
            outputs.write_json(scratch, answers.metrics())
        with outputs.whole(folder / "samples.jsonl") as scratch:
            write_lines(scratch, (row for rows in answers.rows.values() for row in rows))
        with outputs.whole(folder / "results.json") as scratch:
            outputs.write_json(scratch, told)
    console.summary(f"{name} on {suite}, in {folder}", _shown(answers.metrics()))


def load(base: Path, adapter: Path | None, chat: Chat, wanted: params.Params) -> Any:
    """The model, as lm-eval asks it; its `endings` tell how each answer that it generated ended."""
    if wanted.evaluate.backend == "vllm":
        from tasks.evaluate import vllm_scorer

        return vllm_scorer.load(base, adapter, chat, wanted.compute)
    loaded, elsewhere = model.load(base, adapter, wanted.compute), None
    if settings.cluster():
        from tasks.evaluate.spread import Spread  # needs an extra

        elsewhere = Spread(wanted, base, adapter)
    return Watched(loaded, chat.tokenizer, wanted.evaluate.batch_size, chat.end_of_turn_id, elsewhere)


def score(scorer: Any, chat: Chat, suite: suites.Suite, wanted: params.Params) -> dict[str, Any]:
    """lm-eval's own results of a suite, prompted in the chat template.

    Raises UserError where a benchmark cannot be loaded, GuardError where an included one has other documents by now.
    """
    tasks = suite.load()
    limit: dict[str, int] | None = {"max_gen_toks": wanted.evaluate.new_tokens}
    included = suite.folder / suites.INCLUDED
    if included.is_file():
        here = json.loads(included.read_text(encoding="utf-8"))
        guards.same_documents(suite.folder.name, here, suites.contents(tasks))
        limit = None  # an included task says itself how long its answers may be
    results = lm_eval.simple_evaluate(
        model=scorer,
        tasks=list(tasks.values()),
        task_manager=suite.manager,
        apply_chat_template=True,
        system_instruction=chat.system_message,
        gen_kwargs=limit,
        log_samples=True,
        bootstrap_iters=0,
        **parity.SEEDS,
    )
    return dict(results or {})


def _shown(metrics: dict[str, dict[str, float]]) -> dict[str, object]:
    return {name: "  ".join(f"{key} {value:.3f}" for key, value in scores.items()) for name, scores in metrics.items()}


if __name__ == "__main__":
    errors.run(app)
