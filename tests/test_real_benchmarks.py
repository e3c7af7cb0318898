"""Public benchmarks as people bring them, where they lie beside the repository; none of them is part of the project."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tasks.evaluate import __main__ as evaluate
from tests import benchmark_folder
from tests.project import Project

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "eval"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]

IFEVAL = {
    "task": "ifeval",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "ifeval.jsonl"}},
    "test_split": "test",
    "doc_to_text": "prompt",
    "doc_to_target": "{{instruction_id_list}}",
    "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 2},
    "metric_list": [{"metric": "exact_match"}],
}
"""The prompts without the checks, whose libraries nothing else needs."""

DOCUMENTS = {"rte": 277, "copa": 100, "ifeval": 541}


def written(folder: Path) -> Path:
    """The folder of public benchmarks, with links to the data."""
    shutil.copytree(ROOT / "infra" / "public", folder)
    for name in DOCUMENTS:
        (folder / f"{name}.jsonl").symlink_to(DATA / f"{name}.jsonl")
    (folder / "ifeval.yaml").write_text(yaml.safe_dump(IFEVAL, sort_keys=False))
    return folder


def test_public_benchmarks_become_a_suite_and_are_scored(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = benchmark_folder.include(project, written(tmp_path / "folder"), monkeypatch, tmp_path / "benchmarks")
    sizes = json.loads((suite / "suite.json").read_text(encoding="utf-8"))
    assert {name: told["documents"] for name, told in sizes.items()} == DOCUMENTS
    assert (sizes["rte"]["chance"], sizes["copa"]["chance"]) == (0.5, 0.5)
    project.enter(monkeypatch)
    evaluate.run("base", "mine", benchmarks=tmp_path / "benchmarks", out=tmp_path / "results")
    scores = json.loads((tmp_path / "results" / "metrics.json").read_text(encoding="utf-8"))
    assert set(scores["mine_rte_rank"]) == set(scores["mine_copa_rank"]) == {"acc"}
    assert set(scores["mine_ifeval_generate"]) == {"exact_match", "stopped"}
