"""The pipeline on a real Ray cluster: nodes that share nothing but DVC's remote, and that are lost."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.graph import Stage
from tasks.errors import UserError
from tests import ray_cluster, ray_runs, tiny
from tests.checkout import Checkout, checkout
from tests.ray_cluster import Cluster
from tests.ray_runs import Kill, Told
from tests.test_pipeline import ALL

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with ray_cluster.started() as made:
        yield made


def small(root: Path) -> Checkout:
    """A small checkout, with its tiny model in git, and a checkpoint after each of many steps."""
    made = checkout(root, tiny.write(root.with_name("model")))
    shutil.copytree(root.with_name("model"), root / "model")
    made.change("model", "name", "model")
    made.change("train", "epochs", 6)
    made.change("train", "checkpoint_minutes", 0)
    return made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = small(tmp_path_factory.mktemp("here") / "run")
    made.run("dvc", "repro")
    return made


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, nodes: Cluster) -> tuple[Checkout, Told]:
    folder = tmp_path_factory.mktemp("there")
    made = ray_runs.ready(small(folder / "run"), folder / "store")
    return made, ray_runs.run(made, nodes)


@pytest.mark.long
def test_stages_run_on_both_nodes_and_give_what_one_machine_gives(here: Checkout, there: tuple[Checkout, Told]) -> None:
    made, told = there
    assert told.ran == ALL
    ran_on = {node for nodes in told.nodes.values() for node in nodes}
    assert ran_on - {"head"} == {"node1", "node2"}  # what only directs others may run on the head
    assert ray_runs.lock(made) == ray_runs.lock(here)
    assert made.versions() == ["1"]


@pytest.mark.long
def test_what_ran_on_the_nodes_is_up_to_date_here(there: tuple[Checkout, Told]) -> None:
    made, _ = there
    assert "Data and pipelines are up to date." in made.run("dvc", "status")


@pytest.mark.long
def test_nodes_lost_in_training_and_in_evaluation_change_no_byte(
    here: Checkout, there: tuple[Checkout, Told], nodes: Cluster
) -> None:
    made, _ = there
    for each in (here, made):
        each.change("train", "seed", 5)
    here.run("dvc", "repro")
    told = ray_runs.run(made, nodes, Kill(ray_runs.trains), Kill(ray_runs.evaluates, 1))
    assert told.ran == {"train", "evaluate@tuned-inference", "report", "register"}
    [first, second], evaluated = told.nodes["train"], told.nodes["evaluate@tuned-inference"]
    assert told.killed == [first, evaluated[0]]
    assert first != second
    assert len(evaluated) == 2
    assert ray_runs.lock(made) == ray_runs.lock(here)


def test_a_stage_asks_for_what_its_meta_says_and_for_a_processor_a_thread_where_it_says_nothing() -> None:
    from flows import cluster

    assert cluster.wanted(Stage("a", "", frozenset()), 3) == {"cpus": 3, "gpus": 0, "memory": 0}
    asks = Stage("a", "", frozenset(), {"gpus": 1, "memory": 4.5, "limit_minutes": 5})
    assert cluster.wanted(asks, 2) == {"cpus": 2, "gpus": 1, "memory": 4.5}
    with pytest.raises(UserError, match=r"dvc.yaml: a: meta.gpus: 'one': must be a number from 0"):
        cluster.wanted(Stage("a", "", frozenset(), {"gpus": "one"}), 2)


@pytest.mark.long
def test_ctrl_c_ends_what_runs_on_the_nodes(there: tuple[Checkout, Told], nodes: Cluster) -> None:
    made, _ = there
    made.change("train", "epochs", 500)
    with ray_runs.begun(made, nodes) as flow:
        node = nodes.where(ray_runs.trains, flow)
        flow.send_signal(signal.SIGINT)
        assert flow.wait(120) == 130
        assert not node.computes("tasks.train")


@pytest.mark.parametrize(
    ("meta", "told"), [({"cpus": 3}, "cpus 3"), ({"gpus": 1}, "gpus 1"), ({"memory": 5}, "memory 5")]
)
def test_what_no_living_node_has_is_refused(monkeypatch: pytest.MonkeyPatch, meta: dict[str, int], told: str) -> None:
    from flows import cluster

    lost = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 2.0**40}}
    living = {"Alive": True, "Resources": {"CPU": 2.0, "memory": 4.0 * 1024**3}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [lost, living])
    cluster.check([Stage("a", "", frozenset(), {"memory": 4})], 2)
    with pytest.raises(
        UserError, match=rf"^dvc.yaml: a: its meta asks for .*{told}.*, and no node has it; they have cpus"
    ):
        cluster.check([Stage("a", "", frozenset(), meta)], 2)


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    made = ray_runs.ready(small(tmp_path / "run"), tmp_path / "store")
    with pytest.raises(AssertionError, match=r"error: compute.engine is ray, and no cluster answers: start one"):
        made.flow(RAY_ADDRESS="127.0.0.1:9")
