"""What tests share: a small project around a tiny model, its chat, and a fixed number of threads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tasks.chat import Chat
from tests import tiny
from tests.project import Project, make


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which every stage has run once, in this process, on the tiny model with BOS."""
    made = make(tmp_path_factory.mktemp("project"), "with_bos")
    made.run_all()
    return made


@pytest.fixture
def in_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The same, with its folder as the working folder."""
    with monkeypatch.context() as patch:
        project.enter(patch)
        yield project


@pytest.fixture(scope="session")
def chat(project: Project) -> Chat:
    """The chat of the tiny model."""
    return Chat.load(project.root / "models" / "base")


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """The number of threads that params.yaml names too; another one sums in another order."""
    torch.set_num_threads(2)


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A tiny model in hub layout."""
    return tiny.write(tmp_path / "tiny")
