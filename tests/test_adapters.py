"""Each kind of adapter is trained, saved, and applied again by evaluation and serving as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.pyfunc.model import PythonModelContext
from safetensors.numpy import load_file

from tasks import attention, lineage, model, outputs, params
from tasks.errors import UserError
from tasks.params import Lora
from tasks.register.served import InstructionModel
from tasks.shards import read_shards
from tasks.train import step
from tasks.train.__main__ import adapt, save_adapter
from tests.project import Project

EXACT = params.Compute(threads=2, dtype="float32")

ADAPTERS = {
    "LoRA": Lora(),
    "rank-stabilised": Lora(rslora=True, r=4),
    "DoRA": Lora(dora=True, r=4),
    "a regular expression": Lora(target_modules=r".*\.self_attn\.(q|v)_proj"),
    "endings of names": Lora(target_modules=["q_proj", "down_proj"], layers=[1]),
    "all but some": Lora(exclude_modules=["o_proj", "gate_proj"]),
}


def moved(project: Project, lora: Lora) -> tuple[Any, step.Batch]:
    """A base under an adapter after one step, and the batch of that step."""
    torch.manual_seed(1)
    adapted = adapt(model.load_base(project.root / "models/base", EXACT, attention.NAME), lora)
    batch = step.collate([step.Rows(read_shards(project.root / "data/pack"))[0]])
    step.summed_loss(adapted, batch, step.plain_head(adapted)).backward()
    torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=0.05).step()
    return adapted, batch


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_applied_again_as_it_was_trained(name: str, project: Project, tmp_path: Path) -> None:
    base = project.root / "models/base"
    adapted, batch = moved(project, ADAPTERS[name])
    with torch.no_grad():
        expected = step.logits_of(adapted.eval(), batch)
        with adapted.disable_adapter():
            assert not torch.allclose(expected, step.logits_of(adapted, batch), atol=1e-2)
    save_adapter(adapted, tmp_path, base)
    applied = model.apply_adapter(model.load_base(base, EXACT, attention.NAME), tmp_path)
    torch.testing.assert_close(step.logits_of(applied, batch), expected, rtol=1e-3, atol=1e-4)
    ids, merged = torch.arange(3, 30)[None], model.apply_adapter(model.load_base(base, EXACT), tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(served(base, tmp_path)(ids).logits, merged(ids).logits, rtol=1e-3, atol=1e-4)


def served(base: Path, adapter: Path) -> Any:
    """The model as a registered version loads it."""
    loaded = InstructionModel()
    named = {"digest": outputs.digest_path(base), "fingerprint": outputs.digest_path(adapter)}
    loaded.load_context(PythonModelContext({"base": str(base), "adapter": str(adapter)}, named))
    return loaded.chosen()


@pytest.mark.parametrize(
    ("name", "layers"), [("endings of names", {"q_proj", "down_proj"}), ("a regular expression", {"q_proj", "v_proj"})]
)
def test_only_the_selected_layers_are_adapted(name: str, layers: set[str], project: Project, tmp_path: Path) -> None:
    adapted, _ = moved(project, ADAPTERS[name])
    save_adapter(adapted, tmp_path, project.root / "models/base")
    names = [name.split(".") for name in load_file(tmp_path / "adapter_model.safetensors")]
    assert {parts[-3] for parts in names} == layers
    numbers = {parts[parts.index("layers") + 1] for parts in names}
    assert numbers == ({"1"} if name == "endings of names" else {"0", "1"})


def test_an_adapter_names_its_base_and_the_base_s_digest(project: Project) -> None:
    base = project.root / "models/base"
    told = json.loads((project.root / "models/tuned/adapter_config.json").read_text())
    source = json.loads((base / "source.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == (source["name"], source["revision"])
    assert told["auto_mapping"]["base_digest"] == outputs.digest_path(base)


def test_another_kind_of_adapter_is_another_fingerprint(project: Project) -> None:
    wanted, other = (
        project.params,
        project.params.model_copy(update={"train": project.params.train.model_copy(update={"lora": Lora(dora=True)})}),
    )
    folders = project.root / "models/base", project.root / "data/pack"
    one, two = (lineage.fingerprint(lineage.training_inputs(some, *folders)) for some in (wanted, other))
    assert one != two


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_quantised_base_without_a_gpu_is_refused(project: Project) -> None:
    with pytest.raises(UserError, match=r"train\.lora\.base_bits: a 4-bit base needs a GPU"):
        model.load_base(project.root / "models/base", EXACT, bits=4)


def test_a_quantised_base_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(model, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'bitsandbytes"):
        model.quantised(torch.bfloat16)


def test_targets_that_match_nothing_are_told(project: Project) -> None:
    base = model.load_base(project.root / "models/base", EXACT, attention.NAME)
    with pytest.raises(UserError, match=r"train\.lora\.target_modules: '.*query_proj' selects no layer"):
        adapt(base, Lora(target_modules=".*query_proj"))


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, r"target_modules: v_prj: unknown; did you mean v_proj\? .*down_proj"),
        ({"exclude_modules": ["o_prog"]}, r"exclude_modules: o_prog: unknown; did you mean o_proj\?"),
        ({"target_modules": ["q_proj"], "layers": [1, 2]}, r"layers: 2: the model has the blocks 0 to 1$"),
    ],
)
def test_a_layer_that_the_model_lacks_is_told_beside_one_that_it_has(
    wanted: dict[str, Any], fault: str, project: Project
) -> None:
    base = model.load_base(project.root / "models/base", EXACT, attention.NAME)
    with pytest.raises(UserError, match=rf"^train\.lora\.{fault}"):
        adapt(base, Lora(**wanted))


def test_numbered_layers_need_named_ones() -> None:
    with pytest.raises(ValueError, match="`layers` needs `target_modules` as a list"):
        Lora(layers=[0])
