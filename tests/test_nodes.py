"""Work spread over the nodes of a real Ray cluster: the same results in the same order, also where a node is lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tasks import outputs, settings
from tasks.errors import UserError
from tests import ray_cluster, tiny
from tests.checkout import outside
from tests.data_fixtures import ROOT
from tests.project import make as project_of
from tests.project import small_params
from tests.ray_cluster import Cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROWS = 20_000
"""More than a block of lines, and than a row group."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.started(nodes=2, cpus=1) as made:
        yield made


def test_results_come_in_order_from_both_nodes(cluster: Cluster) -> None:
    from tasks import nodes

    folders = list(nodes.ordered(cluster.address, os.path.realpath, iter(["."] * 40), {}))
    assert {Path(folder).relative_to(cluster.folder).parts[0] for folder in folders} == {"node1", "node2"}
    assert list(nodes.ordered(cluster.address, abs, iter(range(-40, 0)), {})) == list(range(40, 0, -1))


def test_a_large_file_reaches_every_node_and_is_the_job_s_own(cluster: Cluster, tmp_path: Path) -> None:
    from tasks import nodes

    path = tmp_path / "weights"
    for content in (b"one" * nodes.LARGE, b"two" * nodes.LARGE):
        path.write_bytes(content)
        there = nodes.ordered(
            cluster.address,
            lambda _, weights: (os.path.realpath("."), outputs.digest_path(weights)),
            iter(range(40)),
            {"weights": path},
        )
        folders, digests = zip(*there, strict=True)
        assert len(set(folders)) == 2
        assert set(digests) == {outputs.digest_path(path)}


def test_a_part_that_no_node_has_room_for_is_refused(cluster: Cluster) -> None:
    from tasks import nodes

    with pytest.raises(UserError, match=r"^each part needs a node with 2 CPUs and 0 GPUs, and there is none$"):
        list(nodes.ordered(cluster.address, abs, iter([1]), {}, nodes.Needs(cpus=2)))


def test_what_the_work_raises_is_raised_here(cluster: Cluster) -> None:
    from tasks import nodes

    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'x'$"):
        list(nodes.ordered(cluster.address, int, iter(["1", "x", "2"]), {}))


@pytest.mark.long
def test_parts_of_a_lost_node_are_made_on_another(cluster: Cluster) -> None:
    from tasks import nodes

    results = nodes.ordered(cluster.address, time.sleep, iter([0.2] * 60), {})
    for _ in range(8):
        next(results)
    cluster.nodes[0].kill()
    assert len(list(results)) == 60 - 8
    cluster.add("node3", cpus=1)
    cluster.nodes[-1].wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model and the params of a source with many rows."""
    folder = tmp_path_factory.mktemp("project")
    values = small_params(tiny.write(folder / "model"), ROOT / "tasks/ingest/starter")
    values["ingest"]["sources"]["mine"] = {"format": "alpaca", "path": "rows.jsonl", "licence": "CC0-1.0"}
    values["render"] |= {"examples": ROWS, "weights": {"mine": 1000}}
    values["evaluate"] |= {"suites": values["render"]["held_out"], "include": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            row = {"instruction": f"What comes after {number}?", "output": f"{number + 1}, said in words. " * 12}
            file.write(json.dumps(row) + "\n")
    command(folder, {}, "tasks.fetch", "run")
    return folder


def command(folder: Path, environment: dict[str, str], *words: str) -> None:
    """Run a stage's command in a folder; AssertionError with what it printed where it fails."""
    told = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=outside() | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not told.returncode, told.stdout + told.stderr


def data(folder: Path, environment: dict[str, str]) -> str:
    """The digest of what ingest, render and pack write."""
    for name in ("mine", "starter"):
        command(folder, environment, "tasks.ingest", "run", name)
    command(folder, environment, "tasks.render", "run")
    command(folder, environment, "tasks.pack", "run")
    return outputs.digest_path(folder / "data")


@pytest.mark.long
def test_the_data_path_on_nodes_writes_the_bytes_of_one_machine(project: Path, cluster: Cluster) -> None:
    alone = data(project, {})
    assert data(project, {settings.CLUSTER: cluster.address}) == alone


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, an adapter and benchmarks, for the one CPU that a node has."""
    folder = project_of(tmp_path_factory.mktemp("tuned") / "project", "with_bos").root
    values = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    values["compute"]["threads"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    for words in ("fetch run", "ingest run starter", "render run", "pack run", "train run"):
        command(folder, {}, *f"tasks.{words}".split())
    return folder


def answers(folder: Path, environment: dict[str, str], models: tuple[str, ...] = ("base", "tuned")) -> str:
    """The digest of all that evaluate has written, now anew for these models."""
    for model in models:
        command(folder, environment, "tasks.evaluate", "run", model, "inference")
    return outputs.digest_path(folder / "reports")


@pytest.mark.long
def test_evaluation_on_nodes_writes_the_bytes_of_one_machine(tuned: Path, cluster: Cluster) -> None:
    alone, on_nodes = answers(tuned, {}), {settings.CLUSTER: cluster.address}
    assert answers(tuned, on_nodes) == alone
    with ThreadPoolExecutor() as pool:
        again = pool.submit(answers, tuned, on_nodes, ("tuned",))
        while not cluster.nodes[-1].computes("ray::_compute"):
            time.sleep(0.05)
        cluster.nodes[-1].kill()
        assert again.result() == alone
