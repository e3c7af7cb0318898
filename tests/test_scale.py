"""infra/SCALE.md names what is there."""

import re

import pytest
from pydantic import BaseModel

from tasks.params import Params
from tests.data_fixtures import ROOT

TEXT = (ROOT / "infra/SCALE.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`]+)`", TEXT)
SECTIONS = {field.alias or name: field.annotation for name, field in Params.model_fields.items()}


def is_key(path: str) -> bool:
    """Whether params.yaml may hold a value at this dotted path."""
    first, *names = path.split(".")
    kind = SECTIONS[first]
    for name in names:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields):
            return False
        kind = kind.model_fields[name].annotation
    return True


def test_each_value_that_is_named_is_one_of_the_params() -> None:
    named = {path for code in CODE for path in re.findall(rf"^((?:{'|'.join(SECTIONS)})(?:\.[a-z_]+)+)", code)}
    assert len(named) > 15
    assert not [path for path in named if not is_key(path)]


@pytest.mark.parametrize("path", ["train.lora.bits", "pack.rows", "train.seed.more"])
def test_another_one_would_be_told(path: str) -> None:
    assert not is_key(path)


def test_each_file_that_is_named_is_there() -> None:
    named = {code for code in CODE if re.fullmatch(r"(tasks|infra|flows|tests)/[\w/.]+", code)}
    assert len(named) > 15
    assert not [path for path in named if not (ROOT / path).is_file()]


def test_each_command_that_is_named_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{name}: " in makefile for name in re.findall(r"`make ([a-z-]+)`", TEXT))
    assert all((ROOT / "infra" / f"{name}.py").is_file() for name in re.findall(r"python -m infra\.(\w+)", TEXT))


def test_every_stage_is_planned() -> None:
    stages = {"fetch", "ingest", "render", "pack", "train", "evaluate", "report", "register"}
    assert stages <= set(re.findall(r"^\| (\w+) \|", TEXT, flags=re.MULTILINE))
