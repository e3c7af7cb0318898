"""The model as MLflow serves it: base and adapter through PEFT, in the chat template of training.

MLflow stores this file with the version and runs it where the version is loaded, so it imports nothing of this project.
The base is a model of its own that the version names; versions that are loaded in one process share it in memory.
"""

import json
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pandas
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

SHARED = vars(sys.modules.setdefault("instructflow_bases", ModuleType("instructflow_bases")))
"""What this process holds of bases, by their digests; MLflow runs this file anew for each version."""

LOCK = SHARED.setdefault("lock", threading.RLock())
"""Held while an adapter is chosen and used: versions of one base take turns."""


class InstructionModel(PythonModel):
    """Answers instructions, or goes on with conversations."""

    def load_context(self, context: PythonModelContext) -> None:
        """Take the base from memory, from the version's own files, or from the model that the version names."""
        named = dict(context.model_config or {})
        with LOCK:
            own = context.artifacts.get("base")
            base = Path(own or mlflow.artifacts.download_artifacts(named["base"]), "" if own else named["folder"])
            self.system_message = json.loads((base / "source.json").read_text(encoding="utf-8"))["system_message"]
            self.tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
            if named["digest"] not in SHARED:
                model: Any = AutoModelForCausalLM.from_pretrained(
                    base, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=True
                )
                SHARED[named["digest"]] = model.eval()
            self.adapter = str(named.get("fingerprint", ""))
            if "adapter" in context.artifacts:
                SHARED[named["digest"]] = adapted(SHARED[named["digest"]], context.artifacts["adapter"], self.adapter)
            self.base = str(named["digest"])

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """The answer to each row: an `instruction` with or without an `input`, or the `messages` of a conversation.

        `max_new_tokens` bounds its length. Raises ValueError where a row has none of them, or both.
        """
        new_tokens = int((params or {}).get("max_new_tokens", 256))
        return [self._answer(messages(row), new_tokens) for row in model_input.to_dict("records")]

    def _answer(self, asked: list[dict[str, str]], new_tokens: int) -> str:
        own = self.system_message is not None and asked[0]["role"] != "system"
        system = [{"role": "system", "content": self.system_message}] if own else []
        prompt = self.tokenizer.apply_chat_template([*system, *asked], tokenize=False, add_generation_prompt=True)
        encoded = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        with LOCK, torch.inference_mode():
            ids = self.chosen().generate(**encoded, max_new_tokens=new_tokens, do_sample=False)
        answer = self.tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        return str(answer).strip()

    def chosen(self) -> Any:
        """The shared model with this version's adapter in use."""
        model = SHARED[self.base]
        if self.adapter:
            model.set_adapter(self.adapter)
        return model


def adapted(model: Any, folder: str, name: str) -> Any:
    """The model with one adapter more."""
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 for a property under its old name; no user's concern.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        if not isinstance(model, PeftModel):
            return PeftModel.from_pretrained(model, folder, adapter_name=name, is_trainable=False).eval()
        if name not in model.peft_config:
            model.load_adapter(folder, name, is_trainable=False)
    return model.eval()


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """A row as a conversation that ends with the user's turn. Raises ValueError where it is none."""
    told = {name: value for name, value in row.items() if value is not None and not isinstance(value, float)}
    if ("instruction" in told) == ("messages" in told):
        raise ValueError("a row needs an `instruction`, or the `messages` of a conversation, and not both")
    if "instruction" in told:
        return [{"role": "user", "content": "\n\n".join(filter(None, (told["instruction"], told.get("input"))))}]
    asked = [{"role": str(turn["role"]), "content": turn["content"]} for turn in told["messages"]]
    if not all(isinstance(turn["content"], str) for turn in asked):
        raise ValueError("the `content` of a turn must be text")
    if not asked or asked[-1]["role"] != "user":
        raise ValueError("`messages` must end with a turn of the role `user`")
    return asked


mlflow.models.set_model(InstructionModel())
