"""Values of a scheduled run are typed as in params.yaml, and none of them is needed."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from flows import changes
from flows.changes import NONE, Changes

Given = dict[str, Any]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"train": {"epochs": 2.0, "lora": {"r": 8}}, "register": {"name": "other"}},
        {"train": {"validate_steps": None}},
        {"ingest": {"sources": {"mine": {"path": "mine.json", "licence": "MIT"}}}},
    ],
)
def test_what_is_given_is_laid_over_and_nothing_else(given: Given) -> None:
    assert changes.told(Changes.model_validate(given)) == given


def test_a_switch_is_chosen_by_its_name_since_the_form_would_send_no() -> None:
    chosen = Changes.model_validate({"train": {"lora": {"dora": "true", "rslora": "false"}}})
    assert changes.told(chosen) == {"train": {"lora": {"dora": True, "rslora": False}}}


def test_a_mapping_that_the_form_left_empty_is_not_given() -> None:
    sent = {"ingest": {"sources": None, "seed": 3}, "train": {}}
    assert changes.told(Changes.model_validate(sent)) == {"ingest": {"seed": 3}, "train": {}}
    assert changes.told(NONE) == {}


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"train": {"epochs": "many"}}, ("train", "epochs")),
        ({"compute": {"threads": 0}}, ("compute", "threads")),
        ({"trian": {}}, ("trian",)),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(given: Given, place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        Changes.model_validate(given)
    assert refused.value.errors()[0]["loc"] == place


def test_the_form_explains_every_value_and_sends_none_by_itself() -> None:
    schema = Changes.model_json_schema()
    train = schema["$defs"]["Train"]["properties"]
    assert train["epochs"]["description"] == "Passes over the token shards."
    assert "default" not in json.dumps(train)
