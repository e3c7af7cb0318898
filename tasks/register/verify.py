"""The chain of a version, link by link: what was recorded when it was registered, and what can be computed now."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient

from tasks import lineage, outputs, params, settings, tracking
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.register import chain
from tasks.register.chain import CHAIN, Places
from tasks.register.stored import Stored


class State(StrEnum):
    """What became of a link."""

    SOUND = "ok"
    BROKEN = "BROKEN"
    UNKNOWN = "not here"


class Link(NamedTuple):
    """A link of the chain, and what was compared."""

    name: str
    state: State
    told: str


def links(client: MlflowClient, version: Stored) -> Iterator[Link]:
    """Every link, from the registry's version back to the sources."""
    made_from, inputs = version.made_from, version.told("inputs.json")
    digests, where = made_from["digests"], places(version)
    yield of_tags(version)
    yield same("fingerprint", made_from["fingerprint"], [("the adapter's inputs", lineage.fingerprint(inputs))])
    for name, place in (("adapter", version.adapter / CHAIN["adapter"].name), ("tuned", version.adapter)):
        stored = ("the registry", outputs.digest_path(place))
        yield same(name, digests[name], [stored, *found(where, name)])
    yield of_params(version, inputs["params"])
    with tempfile.TemporaryDirectory() as scratch:
        yield from of_base(version, inputs, where, Path(scratch))
    yield same("shards", digests["shards"], [("the adapter's inputs", inputs["shards"]), *found(where, "shards")])
    for name in ("examples", "templates", "records"):
        yield same(name, digests[name], found(where, name))
    for name, digest in made_from["sources"].items():
        path = Path(version.params["ingest"]["sources"][name]["path"])
        yield same(f"source {name}", digest, where.digests(path if path.is_absolute() else settings.ROOT / path))
    for name in ("benchmarks", "results", "report"):
        yield same(name, digests[name], found(where, name))
    kept = outputs.digest_path(version.lineage / "requirements.lock")
    yield same("requirements", digests["requirements"], [("the registry", kept), *found(where, "requirements")])
    for name, digest in inputs["code"].items():
        yield same(f"code {name}", digest, where.digests(settings.ROOT / name))
    yield of_commit(version)


def first_broken(checked: Iterable[Link]) -> Link | None:
    """The first link, from the version backwards, that does not hold."""
    return next((link for link in checked if link.state is State.BROKEN), None)


def places(version: Stored) -> Places:
    """Where this version's files may lie. A commit tells of a version only if its tree was clean."""
    here = chain.LINEAGE.is_file() and json.loads(chain.LINEAGE.read_text("utf-8")) == version.made_from
    tags = version.version.tags
    clean = tags.get("instructflow.dirty") == "false"
    lock = version.lock
    return Places(here, lock, chain.cache_folder() if lock else None, tags.get("instructflow.commit", "") * clean)


def found(where: Places, name: str) -> chain.Digests:
    """The digests of a link of CHAIN, in each place that has it."""
    return where.digests(CHAIN[name])


def same(name: str, recorded: str, digests: Iterable[tuple[str, str]]) -> Link:
    """A link by its digest: broken where any place has another one, unknown where none has it."""
    told = list(digests)
    wrong = [f"{place} has {digest[:12]}" for place, digest in told if digest != recorded]
    if wrong:
        return Link(name, State.BROKEN, f"recorded {recorded[:12]}, {', '.join(wrong)}")
    if not told:
        return Link(name, State.UNKNOWN, f"recorded {recorded[:12]}; neither tree nor cache nor git has it")
    return Link(name, State.SOUND, f"{recorded[:12]} in {', '.join(place for place, _ in told)}")


def of_tags(version: Stored) -> Link:
    """The version's tags are those of its lineage."""
    wanted = {f"instructflow.{name}": digest for name, digest in version.made_from["digests"].items()}
    wanted[tracking.FINGERPRINT] = version.made_from["fingerprint"]
    wrong = sorted(name for name, value in wanted.items() if version.version.tags.get(name) != value)
    told = f"tags unlike the lineage: {', '.join(wrong)}" if wrong else f"{len(wanted)} tags as in its lineage"
    return Link("version", State.BROKEN if wrong else State.SOUND, told)


def of_params(version: Stored, recorded: dict[str, Any]) -> Link:
    """The stored params.yaml holds the values that the adapter's training had."""
    try:
        read = params.check(version.params, Path("params.yaml"))
    except UserError as error:
        return Link("params", State.BROKEN, " ".join(str(error).split()))
    got, wanted = (params.dotted(one) for one in (lineage.training_values(read), recorded))
    wrong = sorted(name for name in got.keys() | wanted.keys() if got.get(name) != wanted.get(name))
    told = f"not as trained: {', '.join(wrong)}" if wrong else f"{len(wanted)} values as trained"
    return Link("params", State.BROKEN if wrong else State.SOUND, told)


def of_base(version: Stored, inputs: dict[str, Any], where: Places, scratch: Path) -> Iterator[Link]:
    """The base that the version points to, and the chat template in it."""
    recorded, chat_hash = version.made_from["digests"]["base"], version.made_from["chat_hash"]
    try:
        base = version.base(scratch)
    except UserError as error:
        yield Link("base", State.BROKEN, str(error))
        return
    there = [("the registry", outputs.digest_path(base)), ("the adapter's inputs", inputs["base"])]
    yield same("base", recorded, [*there, *found(where, "base")])
    trained = version.told("training.json")["chat_hash"]
    yield same("chat template", chat_hash, [("the base", Chat.load(base).hash), ("training", trained)])


def of_commit(version: Stored) -> Link:
    """The commit is one of this repository."""
    tags = version.version.tags
    commit = tags.get("instructflow.commit", "")
    if not commit:
        return Link("commit", State.UNKNOWN, "it was made outside of git")
    if not chain.git("rev-parse", "--verify", f"{commit}^{{commit}}"):
        return Link("commit", State.UNKNOWN, f"{commit[:8]} is not in this repository; run: git fetch")
    changed = tags.get("instructflow.dirty") == "true"
    return Link("commit", State.SOUND, f"{commit[:8]}{', changed since; the difference is stored' * changed}")
