"""The README says what is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("path", re.findall(r"^([A-Za-z_./{},]+[a-z}])/? {2,}", README, flags=re.MULTILINE))
def test_everything_in_the_tree_is_there(path: str) -> None:
    written = ("data", "models", "reports", "build")
    assert Path(path).exists() or path.split("/")[0] in written
