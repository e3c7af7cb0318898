"""The README says what is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks import params, suites
from tasks.include import documents, folders
from tasks.ingest import __main__ as ingest
from tasks.ingest.containers.hub import DataSet
from tasks.ingest.formats import FORMATS
from tasks.render import templates
from tests.data_fixtures import record

README = Path("README.md").read_text(encoding="utf-8")
MAKEFILE = Path("Makefile").read_text(encoding="utf-8")


def test_the_drawn_graph_is_dvc_s() -> None:
    dvc = str(Path(sys.executable).with_name("dvc"))
    drawn = subprocess.run([dvc, "dag", "--mermaid"], capture_output=True, text=True, check=True).stdout
    [block] = re.findall(r"```mermaid\n(.*?)```", README, flags=re.DOTALL)
    assert lines(block) == lines(drawn)


def lines(graph: str) -> list[str]:
    """The edges of a mermaid graph by the names of their nodes, in alphabetical order."""
    names = dict(re.findall(r'(node\d+)\["([^"]+)"\]', graph))
    return sorted(f"{names[start]} {names[end]}" for start, end in re.findall(r"(node\d+)-->(node\d+)", graph))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))))
def test_every_make_command_is_one(command: str) -> None:
    assert re.search(rf"^{command}: .*## ", MAKEFILE, flags=re.MULTILINE)


def test_make_help_tells_every_command() -> None:
    told = subprocess.run(["make"], capture_output=True, text=True, check=True).stdout
    assert all(f"make {command} " in told for command in re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE))


BLOCKS = re.findall(r"```yaml\n((?:ingest|model|render|train|evaluate|gate):.*?)```", README, flags=re.DOTALL)


def test_values_are_shown_for_data_model_adapter_validation_and_gate() -> None:
    shown = {name for block in BLOCKS for name in yaml.safe_load(block)}
    assert shown == {"ingest", "model", "render", "train", "evaluate", "gate"}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_values_that_are_shown_are_right_ones(block: str) -> None:
    shown = yaml.safe_load(block)
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    whole = {"ingest", "model"}  # these are shown as the user's own, the others to be added to
    both = values | {name: own if name in whole else values[name] | own for name, own in shown.items()}
    checked = params.check(both, Path("params.yaml"))
    assert all(hasattr(getattr(checked, name), key) for name, own in shown.items() for key in own)


def test_the_pinned_data_set_that_is_shown_is_a_right_one() -> None:
    [block] = re.findall(r"```yaml\n(dataset: .*?)```", README, flags=re.DOTALL)
    shown = DataSet.model_validate(yaml.safe_load(block))
    assert (shown.dataset, shown.split) == ("owner/name", "train")


def test_the_benchmark_that_is_shown_is_one(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(task: .*?)```", README, flags=re.DOTALL)
    row = {"country": "Peru", "cities": ["Lima", "Cusco"], "right": 0}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "capitals.jsonl").write_text(json.dumps(row))
    (tmp_path / "own" / "capitals.yaml").write_text(block)
    copied = folders.copy(tmp_path / "own", tmp_path / "copy", tmp_path / "copy")
    [task] = suites.find(copied).load().values()
    assert documents.describe("mine", task).asked[0]["prompt"] == "What is the capital of Peru?"


def test_the_template_that_is_shown_fits_a_labelled_pair(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(templates:.*?)```", README, flags=re.DOTALL)
    (tmp_path / "reviews.yaml").write_text(block)
    pair = record(1)._replace(task="reviews", fields={"input": "I loved it."}, outputs=["good"], options=[])
    [template] = templates.load_bank(tmp_path).for_record(pair)
    assert templates.render(pair, template).turns == ["Is this review good or bad?\n\nI loved it.", "good"]


def test_the_formats_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    ingest.list_formats()
    told = capsys.readouterr().out
    assert all(name in told for name in FORMATS)


@pytest.mark.parametrize("path", re.findall(r"^([A-Za-z_./{},]+[a-z}])/? {2,}", README, flags=re.MULTILINE))
def test_everything_in_the_tree_is_there(path: str) -> None:
    written = ("data", "models", "reports", "build")
    assert Path(path).exists() or path.split("/")[0] in written
