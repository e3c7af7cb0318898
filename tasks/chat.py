"""The chat template of a model: the role markup around an instruction, the system message and the end of turn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tasks.errors import UserError
from tasks.guards import GuardError
from tasks.records import digest

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and bos_token %}{{ bos_token }}{% endif %}"
    "{{ message.role | capitalize }}:\n{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
"""Set for a base model that brings no chat template."""

_PROBE = "7f3probe"


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template, and the system message that training, evaluation and serving share."""

    tokenizer: Any
    system_message: str | None = None

    @classmethod
    def load(cls, folder: Path) -> "Chat":
        """The chat of the base model in `folder`, as fetch wrote it. Raises UserError where it is no such folder."""
        if not (folder / "source.json").is_file():
            raise UserError(f"{folder}: no base model here; run: dvc repro fetch")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no tokenizer can be loaded from here: {error}") from error
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        return cls(tokenizer, source["system_message"])

    def prompt(self, instruction: str) -> str:
        """The instruction in its markup, up to where the model's answer begins."""
        return self.conversation([instruction])

    def conversation(self, turns: Sequence[str], system: str = "") -> str:
        """The user's and the assistant's texts, in turn, in their markup; after the user's, up to the next answer.

        `system` stands in place of the run's system message where it is not empty.
        """
        before = system or self.system_message
        messages = [{"role": "system", "content": before}] if before is not None else []
        messages += [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(turns) % 2 == 1)
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of text that already carries its markup: no second BOS is put in front."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @cached_property
    def end_of_turn(self) -> str:
        """The token that ends an answer. Raises GuardError where the template's markup cannot be told apart."""
        whole = self.conversation(["Say it.", _PROBE])
        opened = self.prompt("Say it.")
        if not whole.startswith(opened + _PROBE):
            raise GuardError(
                "the chat template puts something between its generation prompt and the answer, so training and"
                " generation would differ; use a template whose generation prompt ends where the answer begins"
            )
        closing = self.encode(whole[len(opened) + len(_PROBE) :].strip())
        return str(self.tokenizer.convert_ids_to_tokens(closing[0])) if closing else str(self.tokenizer.eos_token)

    @cached_property
    def end_of_turn_id(self) -> int:
        """The id of the token that ends an answer."""
        return int(self.tokenizer.convert_tokens_to_ids(self.end_of_turn))

    @cached_property
    def hash(self) -> str:
        """What training and evaluation must agree on: role markup, system message and end of turn."""
        return digest([self.prompt(_PROBE), self.tokenizer.chat_template, self.system_message, self.end_of_turn], 16)
