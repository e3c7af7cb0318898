"""A registered version in memory: adapter merged into its base, as evaluation measured it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from tasks import guards, model
from tasks.chat import Chat
from tasks.evaluate.engine import Engine
from tasks.params import Compute
from tasks.register import stored


@dataclass(frozen=True)
class Loaded:
    """A version's engine and chat; `ends` are the tokens that end an answer."""

    name: str
    version: str
    engine: Engine
    chat: Chat
    ends: frozenset[int]


def load(client: MlflowClient, address: str) -> Loaded:
    """Load a version from the registry. Raises UserError where there is none, GuardError for another chat template."""
    with tempfile.TemporaryDirectory() as scratch:
        version = stored.read(client, address, Path(scratch) / "version")
        base = version.base(Path(scratch))
        chat = Chat.load(base)
        guards.same_chat(model.trained_chat(version.adapter), chat.hash)
        compute = Compute.model_validate(version.told("inputs.json")["params"]["compute"])
        whole = model.apply_adapter(model.load_base(base, compute), version.adapter)
        named = version.version
    ends = whole.generation_config.eos_token_id
    tokens = frozenset([chat.end_of_turn_id, *(ends if isinstance(ends, list) else [ends])])
    return Loaded(named.name, str(named.version), Engine(whole, model.device()), chat, tokens)
