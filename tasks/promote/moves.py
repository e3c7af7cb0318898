"""The alias `champion` and the log of its moves.

The log stands in the registered model's tags, an entry a tag, written before the move it tells of: whoever is killed
between the two leaves a move that the next call finishes. An entry is never written anew.
"""

import getpass
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient

from tasks.errors import UserError

CHAMPION, PREVIOUS = "champion", "previous"

LOG = "instructflow.log."
"""What tags of log entries begin with; six digits follow."""

DONE = "instructflow.moved"
"""The tag of a version with the number of the newest move to it that was carried out."""

_LONGEST = 2_000
"""Characters of a reason; MLflow keeps 5,000 of a tag."""


@dataclass(frozen=True)
class Move:
    """An entry of the log: who let the alias go from one version to another, when and why."""

    number: int
    when: str
    who: str
    what: Literal["promoted", "rolled back", "moved by hand"]
    why: str
    before: str | None
    after: str


def log(client: MlflowClient, name: str) -> list[Move]:
    """All moves, the first one first."""
    tags = client.get_registered_model(name).tags
    return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(LOG)]


def champion(client: MlflowClient, name: str) -> str | None:
    """The version that the alias names, once every move that was begun is finished.

    A move that somebody made past the gate goes into the log as such.
    """
    moves = log(client, name)
    if moves and client.get_model_version(name, moves[-1].after).tags.get(DONE) != str(moves[-1].number):
        carry_out(client, name, moves[-1])
    aliases = client.get_registered_model(name).aliases
    now = aliases.get(CHAMPION)
    told = moves[-1].after if moves else None
    if now is not None and str(now) != told:
        note(client, name, "moved by hand", "the alias was found at another version than the log tells", told, str(now))
    return None if now is None else str(now)


def note(client: MlflowClient, name: str, what: str, why: str, before: str | None, after: str) -> None:
    """Write a move into the log and carry it out."""
    number = len(log(client, name)) + 1
    who, when = f"{getpass.getuser()}@{platform.node()}", datetime.now(UTC).isoformat(timespec="seconds")
    move = Move(number, when, who, what, why[:_LONGEST], before, after)  # type: ignore[arg-type]
    client.set_registered_model_tag(name, f"{LOG}{number:06}", json.dumps(asdict(move)))
    carry_out(client, name, move)


def carry_out(client: MlflowClient, name: str, move: Move) -> None:
    """Set the aliases as a move demands; once more changes nothing."""
    before = move.before if move.what != "rolled back" else _before(log(client, name), move.after)
    if before is not None:
        client.set_registered_model_alias(name, PREVIOUS, before)
    elif PREVIOUS in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, PREVIOUS)
    client.set_registered_model_alias(name, CHAMPION, move.after)
    client.set_model_version_tag(name, move.after, DONE, str(move.number))


def roll_back(client: MlflowClient, name: str, why: str) -> Move:
    """Let the alias go back to the version that the champion had replaced. Raises UserError where there is none."""
    now = champion(client, name)
    previous = client.get_registered_model(name).aliases.get(PREVIOUS)
    if now is None or previous is None:
        raise UserError(f"{name}: no earlier champion to go back to; `python -m tasks.promote log` tells the moves")
    note(client, name, "rolled back", why, now, str(previous))
    return log(client, name)[-1]


def taken_back(moves: list[Move], version: str) -> str | None:
    """Why a version is no champion any more that once was rolled back; None where it was not."""
    own = [move for move in moves if move.after == version or (move.what == "rolled back" and move.before == version)]
    return f"{own[-1].when}, {own[-1].why}" if own and own[-1].after != version else None


def _before(moves: list[Move], version: str) -> str | None:
    """The version that this one replaced when it was promoted."""
    return next((move.before for move in reversed(moves) if move.after == version and move.what != "rolled back"), None)
