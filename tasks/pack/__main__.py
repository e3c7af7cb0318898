"""python -m tasks.pack run | show | verify: examples to token shards, and a look at which tokens are learnt."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tasks import console, errors, outputs, params, tables
from tasks import shards as store
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.pack.write import pack

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Base = Annotated[Path, typer.Option(help="The base model's folder, for its tokenizer and chat template.")]


@app.callback()
def main() -> None:
    """Turn examples into tokens."""


@app.command()
def run(
    examples: Path = Path("data/render/examples.parquet"),
    validation: Path = Path("data/render/validation.parquet"),
    base: Base = Path("models/base"),
    out: Path = Path("data/pack"),
) -> None:
    """Write the token shards of EXAMPLES to OUT, and those of VALIDATION, where it holds any, to OUT/validation.

    Examples longer than a row go to rejects.jsonl.
    """
    wanted, chat = params.load().pack, Chat.load(base)
    with console.timed("pack"), outputs.whole_folder(out) as folder:
        held_back = pack_validation(validation, chat, wanted, folder) if tables.count(validation) else {}
        index = pack(examples, chat, wanted, folder)
    told = {name: value for name, value in index.items() if name != "arrays"} | held_back
    console.summary(f"token shards in {out}", told)


def pack_validation(examples: Path, chat: Chat, wanted: params.Pack, folder: Path) -> dict[str, Any]:
    """Write the shards for the validation loss into a folder of their own; returns how many sequences they hold."""
    apart = folder / store.VALIDATION
    apart.mkdir()
    return {"validation": pack(examples, chat, wanted.model_copy(update={"tokens": None}), apart)["sequences"]}


@app.command()
def show(
    shards: Annotated[Path, typer.Option(help="The folder that pack wrote.")] = Path("data/pack"),
    base: Base = Path("models/base"),
    row: Annotated[int, typer.Option(help="The packed row to show.", min=0)] = 0,
    number: Annotated[int, typer.Option("-n", help="Sequences of the row to show.", min=1)] = 3,
) -> None:
    """Show tokens as the model is trained on them: grey is read, green is learnt, | divides tokens."""
    packed, tokenizer = store.read_shards(shards), Chat.load(base).tokenizer
    if row >= len(packed):
        raise UserError(f"--row {row}: there are {len(packed)} rows, from 0")
    content, start = packed.row(row), 0
    for example, length in list(zip(packed.examples(row), content["lengths"], strict=True))[:number]:
        console.console.rule(f"[bold]{example}[/] · {length} tokens")
        text = Text()
        for place in range(start, start + int(length)):
            style = "bold green" if content["supervised"][place] else "grey50"
            text.append(tokenizer.decode([int(content["ids"][place])]), style=style)
            text.append("|", style="grey30")
        console.console.print(text)
        start += int(length)


@app.command()
def verify(shards: Annotated[Path, typer.Option(help="The folder that pack wrote.")] = Path("data/pack")) -> None:
    """Compare the shards' bytes with the digests in their index."""
    for folder in filter(Path.is_dir, (shards, shards / store.VALIDATION)):
        store.verify(folder)
        console.console.print(f"{folder}: every array is whole")


if __name__ == "__main__":
    errors.run(app)
