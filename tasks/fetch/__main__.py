"""python -m tasks.fetch run: get the base model named in params.yaml and write it as one folder that later stages load.

The folder holds safetensors, tokenizer, config, chat template, and `source.json` with what it was made from.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasks import console, errors, outputs, params
from tasks.chat import PLAIN_TEMPLATE, Chat
from tasks.errors import UserError
from tasks.fetch.sources import SOURCES, Loaded

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Get the base model."""


@app.command()
def run(out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("models/base")) -> None:
    """Write the base model of params.yaml (section `model`) to OUT."""
    wanted = params.load().model
    with console.timed("fetch"), console.console.status(f"loading {wanted.name}"):
        loaded = SOURCES[wanted.source](wanted)
        described = complete(loaded, wanted)
        with outputs.whole_folder(out) as folder:
            loaded.model.save_pretrained(folder)
            loaded.tokenizer.save_pretrained(folder)
            outputs.write_json(folder / "source.json", described)
    console.summary(f"base model in {out}", described)


def complete(loaded: Loaded, wanted: params.Model) -> dict[str, Any]:
    """Give the model what later stages rely on (a chat template, a padding token, the end of turn among its stops).

    Returns the content of `source.json`. Raises UserError where the tokenizer has no end-of-sequence token, or more
    tokens than the model.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if tokenizer.eos_token is None:
        raise UserError(f"model.name: the tokenizer of {wanted.name} has no end-of-sequence token, so no turn can end")
    embedded = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > embedded:
        raise UserError(
            f"model.name: the tokenizer of {wanted.name} knows {len(tokenizer)} tokens, the model {embedded}"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    brings_template = bool(tokenizer.chat_template)
    if not brings_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    # A folder's absolute path must not reach the files: equal models give equal bytes wherever they lie.
    model.config._name_or_path = tokenizer.name_or_path = ""
    chat = Chat(tokenizer, wanted.system_message)
    stops = {tokenizer.eos_token_id, chat.end_of_turn_id}
    model.generation_config.eos_token_id = sorted(stops) if len(stops) > 1 else stops.pop()
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return {
        "source": wanted.source,
        "name": Path(wanted.name).name if wanted.source == "folder" else wanted.name,
        "file": wanted.file,
        "revision": wanted.revision,
        "architecture": model.config.architectures[0] if model.config.architectures else type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "chat_template": "the model's own" if brings_template else "plain",
        "chat_hash": chat.hash,
        "end_of_turn": chat.end_of_turn,
        "system_message": wanted.system_message,
    }


if __name__ == "__main__":
    errors.run(app)
