"""What tests share: a small project around a tiny model, its chat, a fixed number of threads, and their workers."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tasks.chat import Chat
from tasks.train import operations
from tests import course, programs, tiny
from tests.course import Course
from tests.project import Project, make

SLOWEST = [
    "cluster",
    "deployed",
    "pipeline",
    "compare",
    "servers",
    "versioning",
    "remotes",
    "resume",
    "launch",
    "control",
    "models",
    "register",
]
"""Test files that take longest: they begin first, so that no worker has a long one left when the other is done."""

# A worker may wait longer for a processor than hypothesis lets one input take.
hypothesis.settings.register_profile("beside", deadline=None)
hypothesis.settings.load_profile("beside")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the whole suite; who names tests does not pay for their start."""
    # torch's threads would otherwise wait for each other in a loop, on a processor that the other worker needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return 0 if config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first."""
    place = {f"test_{name}.py": number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option by which CI refuses to skip."""
    parser.addoption(programs.OPTION, action="store_true", help="fail the tests whose program is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose program is missing."""
    for marker in programs.PROGRAMS.keys() & {mark.name for mark in item.iter_markers()}:
        programs.check(marker, programs.find(marker), bool(item.config.getoption(programs.OPTION)))


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


@pytest.fixture(autouse=True, scope="session")
def measured_for_a_moment() -> None:
    """Each training measures its device; how exactly matters to none here."""
    operations.SECONDS = 0.01


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A tiny model in hub layout."""
    return tiny.write(tmp_path / "tiny")
