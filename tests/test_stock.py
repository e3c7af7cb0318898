"""Stock lm-eval on the command line, pointed at the adapter and the benchmarks, gives the stage's numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import outside
from tests.project import Project

SUITE = Path("data/render/benchmarks/inference")


@pytest.fixture(scope="module")
def stock(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results that `lm_eval run` wrote of the tuned model on every benchmark."""
    out = tmp_path_factory.mktemp("stock")
    tasks = ",".join(f"{SUITE.name}_{path.stem}" for path in sorted((project.root / SUITE).glob("*.yaml")))
    command = [
        *("lm_eval", "run", "--model", "hf"),
        *("--model_args", "pretrained=models/base,peft=models/tuned,dtype=float32", "--device", "cpu"),
        *("--include_path", str(SUITE), "--tasks", tasks, "--apply_chat_template", "--batch_size", "4"),
        *("--gen_kwargs", f"max_gen_toks={project.params.evaluate.new_tokens}"),
        *("--log_samples", "--output_path", str(out)),
    ]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(
        command, cwd=project.root, env={**outside(), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def evaluated(project: Project, name: str) -> Path:
    return project.root / "reports/evaluate/tuned/inference" / name


def test_the_scores_are_the_stage_s(stock: Path, project: Project) -> None:
    [path] = stock.rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    metrics = json.loads(evaluated(project, "metrics.json").read_text())
    assert results.keys() == metrics.keys()
    for benchmark, scores in metrics.items():
        own = scores.get("accuracy", scores.get("exact_match"))
        stocks = results[benchmark].get("acc,none", results[benchmark].get("exact_match,none"))
        assert own == pytest.approx(stocks, abs=1e-6), benchmark


def test_every_answer_is_the_stage_s(stock: Path, project: Project) -> None:
    lines = evaluated(project, "samples.jsonl").read_text(encoding="utf-8").splitlines()
    own = {(row["benchmark"], row["document"]): row["answer"] for row in map(json.loads, lines)}
    found = {}
    for path in stock.rglob("samples_*.jsonl"):
        benchmark = path.stem.removeprefix("samples_").rsplit("_", 1)[0]
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            found[benchmark, row["doc"]["id"]] = answer(row)
    assert len(found) == len(own) > 40
    assert found == own


def answer(row: dict[str, Any]) -> str:
    """The choice that a row of lm-eval's ranks first, or the text that it holds."""
    if "acc" in row:
        scores = [float(one[0]) for one in row["filtered_resps"]]
        return str(row["doc"]["choices"][scores.index(max(scores))])
    return str(row["filtered_resps"][0]).strip()
