from pathlib import Path
from typing import Any

import pytest

from tasks import params
from tasks.errors import UserError
from tests.data_fixtures import sections


def check(**changes: dict[str, Any]) -> params.Params:
    return params.check(sections(**changes), Path("params.yaml"))


def faults(**changes: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        check(**changes)
    return str(caught.value).splitlines()


def test_all_faults_are_told_at_once_each_at_its_dotted_path() -> None:
    head, *rest = faults(compute={"threads": 0}, train={"epochs": -1, "lora": {"r": "many"}})
    assert head == "params.yaml: 3 faults"
    assert [line.split(":")[0].strip() for line in rest] == ["compute.threads", "train.epochs", "train.lora.r"]


def test_a_single_fault_is_counted_as_one() -> None:
    assert faults(compute={"threads": 0})[0] == "params.yaml: 1 fault"


def test_a_fault_shows_the_value_that_is_wrong() -> None:
    assert "(it is 'float8')" in faults(compute={"dtype": "float8"})[1]


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("train", {"learning_rte": 1e-3}, "train.learning_rte: unknown; did you mean train.learning_rate?"),
        ("train", {"lora": {"dropot": 0}}, "train.lora.dropot: unknown; did you mean train.lora.dropout?"),
        (
            "ingest",
            {"sources": {"toy": {"path": "a", "fromat": "alpaca", "format": "alpaca"}}},
            "ingest.sources.toy.fromat: unknown; did you mean ingest.sources.toy.format?",
        ),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_one(section: str, values: dict[str, Any], told: str) -> None:
    assert f"  {told}" in faults(**{section: values})


def test_a_key_that_resembles_none_is_refused_without_a_guess() -> None:
    assert faults(pack={"zzzz": 1})[1:] == ["  pack.zzzz: unknown"]


def test_a_missing_section_is_named() -> None:
    values = sections()
    del values["register"]
    with pytest.raises(UserError, match="register: missing"):
        params.check(values, Path("params.yaml"))


def test_a_value_that_may_have_two_types_is_one_fault_at_its_own_path() -> None:
    head, fault = faults(train={"lora": {"target_modules": 5}})
    assert head.endswith("1 fault")
    assert fault.strip().startswith("train.lora.target_modules: ")
