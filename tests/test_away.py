"""A stage on a machine that shares no disk with the run: what travels there and back."""

import io
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from flows import away
from tasks.errors import UserError
from tests.checkout import Checkout, checkout
from tests.tiny import write


@pytest.fixture
def made(tmp_path: Path) -> Checkout:
    """A checkout with everything in git and a remote."""
    made = checkout(tmp_path / "run", write(tmp_path / "model"))
    made.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    made.commit("first")
    return made


def elsewhere(made: Checkout, home: Path, address: str) -> bytes:
    """What another machine answers that computes this stage."""
    folder = home / "stage"
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(away.pack(made.root))) as parcel:
        parcel.extractall(folder, filter="data")
    Checkout(folder).run(sys.executable, "-m", "flows.away", address, HOME=str(home))
    return (folder / away.ANSWER).read_bytes()


def test_what_all_machines_can_get_is_no_fault(made: Checkout) -> None:
    away.check(made.root)


def test_without_a_remote_it_is_refused(made: Checkout) -> None:
    made.run("dvc", "remote", "remove", "store")
    with pytest.raises(UserError, match=r"\.dvc/config: compute.engine is ray, .*: dvc remote add --default NAME URL"):
        away.check(made.root)


def test_what_neither_git_nor_dvc_holds_is_named(made: Checkout) -> None:
    (made.root / "rows.jsonl").write_text('{"instruction": "Say it.", "output": "It."}\n')
    (made.root / "tasks/pack/new.py").write_text("")
    sources = yaml.safe_load((made.root / "params.yaml").read_text())["ingest"]["sources"]
    made.change("ingest", "sources", {**sources, "mine": {"path": "rows.jsonl", "licence": "CC0-1.0"}})
    with pytest.raises(UserError, match=r"^rows.jsonl, tasks/pack/new.py: a stage reads it, and neither git nor DVC"):
        away.check(made.root)
    made.run("dvc", "add", "rows.jsonl")
    made.run("git", "add", "-A")
    away.check(made.root)


def test_a_stage_s_outputs_come_back_with_its_part_of_the_lock_and_what_dvc_does_not_cache(
    made: Checkout, tmp_path: Path
) -> None:
    graph = (made.root / "dvc.yaml").read_text()
    metrics = "    metrics: [data/render/mixture.json]\n"
    assert metrics in graph
    graph = graph.replace(metrics, "    metrics: [{data/render/mixture.json: {cache: false}}]\n")
    (made.root / "dvc.yaml").write_text(graph)
    for number, address in enumerate(("ingest@starter", "include@following", "render")):
        away.merge(address, elsewhere(made, tmp_path / f"home{number}", address), made.root)
    assert "up to date" in made.run("dvc", "status", "render")
    assert (made.root / "data/render/mixture.json").is_file()
    assert (made.root / "build/timings/render.json").is_file()
    lock = yaml.safe_load((made.root / "dvc.lock").read_text())
    assert lock["schema"] == "2.0"
    assert list(lock["stages"]) == ["ingest@starter", "include@following", "render"]
