"""What tests share: a small project around a tiny model, its chat, and a fixed number of threads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tasks.chat import Chat
from tests import course, debian, tiny
from tests.course import Course
from tests.project import Project, make


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option by which CI refuses to skip."""
    parser.addoption(debian.OPTION, action="store_true", help="fail the tests whose Debian package is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose Debian package is missing."""
    for marker in debian.PACKAGES.keys() & {mark.name for mark in item.iter_markers()}:
        debian.check(marker, debian.program(marker), bool(item.config.getoption(debian.OPTION)))


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
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A training that has not begun."""
    return course.make(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def begun(prepared: Course, tmp_path: Path) -> Course:
    """A training of its own for each test."""
    return prepared.copy(tmp_path)


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
