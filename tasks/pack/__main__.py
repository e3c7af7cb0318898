"""python -m tasks.pack run | show: examples to token shards, and a look at which tokens are learnt."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from tasks import console, errors, guards, outputs, params
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.examples import read_examples
from tasks.pack.tokens import Sequence, first_fit_decreasing, tokenise
from tasks.records import Reject, write_lines
from tasks.shards import Shards, read_shards, write_shards

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Base = Annotated[Path, typer.Option(help="The base model's folder, for its tokenizer and chat template.")]


@app.callback()
def main() -> None:
    """Turn examples into tokens."""


@app.command()
def run(
    examples: Path = Path("data/render/examples.parquet"),
    base: Base = Path("models/base"),
    out: Path = Path("data/pack"),
) -> None:
    """Write the token shards of EXAMPLES to OUT; examples longer than a row go to rejects.jsonl."""
    wanted = params.load().pack
    with console.timed("pack"):
        chat = Chat.load(base)
        sequences, rejects = [], []
        for example in console.track(list(read_examples(examples)), "tokenising"):
            sequence = tokenise(example, chat)
            if len(sequence.ids) <= wanted.row_tokens:
                sequences.append(sequence)
            else:
                reason = f"too long: {len(sequence.ids)} tokens, and pack.row_tokens is {wanted.row_tokens}"
                rejects.append(Reject("pack", example.id, reason, example.prompt[:200]))
        if not sequences:
            raise UserError(f"pack.row_tokens: no example of {examples} fits into {wanted.row_tokens} tokens")
        shards = pack(sequences, wanted.row_tokens)
        shards.index.update(chat_hash=chat.hash, rejects=len(rejects))
        with outputs.whole_folder(out) as folder:
            write_shards(folder, shards)
            write_lines(folder / "rejects.jsonl", (row._asdict() for row in rejects))
    console.summary(f"token shards in {out}", {k: v for k, v in shards.index.items() if k != "examples"})


@app.command()
def show(
    shards: Annotated[Path, typer.Option(help="The folder that pack wrote.")] = Path("data/pack"),
    base: Base = Path("models/base"),
    row: Annotated[int, typer.Option(help="The packed row to show.", min=0)] = 0,
    number: Annotated[int, typer.Option("-n", help="Sequences of the row to show.", min=1)] = 3,
) -> None:
    """Show tokens as the model is trained on them: grey is read, green is learnt, | divides tokens."""
    packed, tokenizer = read_shards(shards), Chat.load(base).tokenizer
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


def pack(sequences: list[Sequence], row_tokens: int) -> Shards:
    """The sequences in rows of at most `row_tokens`. Raises GuardError where a row trains on nothing."""
    rows = first_fit_decreasing([len(sequence.ids) for sequence in sequences], row_tokens)
    ordered = [sequences[number] for row in rows for number in row]
    for number, row in enumerate(rows):
        guards.supervised_somewhere(f"row {number}", [flag for place in row for flag in sequences[place].supervised])
    tokens = sum(len(sequence.ids) for sequence in ordered)
    index: dict[str, Any] = {
        "examples": [sequence.example for sequence in ordered],
        "sequences": len(ordered),
        "tokens": tokens,
        "supervised_tokens": sum(sum(sequence.supervised) for sequence in ordered),
        "rows": len(rows),
        "packing_waste": round(1 - tokens / (len(rows) * row_tokens), 4),
    }
    return Shards(
        np.array([token for sequence in ordered for token in sequence.ids], dtype=np.int32),
        np.array([flag for sequence in ordered for flag in sequence.supervised], dtype=np.bool_),
        _ends([len(sequence.ids) for sequence in ordered]),
        _ends([len(row) for row in rows]),
        index,
    )


def _ends(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


if __name__ == "__main__":
    errors.run(app)
