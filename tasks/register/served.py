"""The model as MLflow serves it: base and adapter through PEFT, in the chat template of training.

MLflow stores this file with the version and runs it where the version is loaded, so it imports nothing of this project.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


class InstructionModel(PythonModel):
    """Answers instructions."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load base and adapter from the version's own files."""
        base = Path(context.artifacts["base"])
        self.system_message = json.loads((base / "source.json").read_text(encoding="utf-8"))["system_message"]
        self.tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(
            base, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        adapted: Any = PeftModel.from_pretrained(loaded, context.artifacts["adapter"], is_trainable=False)
        self.model = adapted.merge_and_unload().requires_grad_(True).eval()

    # MLflow reads a type hint of `model_input` as a schema of its own; the signature is given with the version.
    def predict(  # type: ignore[no-untyped-def]
        self,
        context: PythonModelContext,
        model_input,  # noqa: ANN001
        params: dict[str, Any] | None = None,
    ) -> list[str]:
        """The answer to each row of the column `instruction`; `max_new_tokens` bounds its length."""
        new_tokens = int((params or {}).get("max_new_tokens", 256))
        return [self._answer(str(instruction), new_tokens) for instruction in model_input["instruction"]]

    def _answer(self, instruction: str, new_tokens: int) -> str:
        system = [] if self.system_message is None else [{"role": "system", "content": self.system_message}]
        prompt = self.tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": instruction}], tokenize=False, add_generation_prompt=True
        )
        encoded = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            ids = self.model.generate(**encoded, max_new_tokens=new_tokens, do_sample=False)
        answer = self.tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        return str(answer).strip()


mlflow.models.set_model(InstructionModel())
