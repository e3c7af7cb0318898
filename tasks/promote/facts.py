"""What is checked of a candidate beside its scores: words, size and speed, and that nobody took it back."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow

from tasks import settings
from tasks.errors import UserError
from tasks.params import Gate
from tasks.promote.evidence import Evidence
from tasks.promote.gate import Check

_ASKED = "Name three things that one needs for a walk in the rain, and say why."
_TOKENS = 32


def of(gate: Gate, evidence: Evidence, address: str, taken_back: str | None) -> Iterator[Check]:
    """The checks that params ask for; `address` is where MLflow loads the version from."""
    if taken_back is not None:
        yield Check("not taken back before", False, f"it was: {taken_back}; name it with --version to judge it again")
    if gate.words is not None:
        yield words(Path(gate.words), evidence)
    if gate.adapter_mib is not None:
        yield size(gate.adapter_mib, address)
    if gate.token_milliseconds is not None:
        yield speed(gate.token_milliseconds, address)


def words(path: Path, evidence: Evidence) -> Check:
    """No generated answer may hold a listed word. Raises UserError where the list is missing or empty."""
    if not path.is_file():
        raise UserError(f"gate.words: {path} is no file; name a list of words, one a line, or leave it out")
    listed = [re.escape(line.strip()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not listed:
        raise UserError(f"gate.words: {path} holds no word; list them one a line, or leave it out")
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(listed)})(?!\w)", re.IGNORECASE)
    answers = list(evidence.answers())
    found = sum(bool(pattern.search(answer)) for answer in answers)
    return Check("none of the listed words", not found, f"{found} of {len(answers)} answers hold one of {len(listed)}")


def size(most: float, address: str) -> Check:
    """The adapter's weights in MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tracking_uri(settings.tracking_uri())
        folder = mlflow.artifacts.download_artifacts(f"{address}/artifacts", dst_path=scratch)
        found = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 1024**2
    return Check("size of the adapter", found <= most, f"{found:.1f} MiB, and {most:g} are allowed")


def speed(most: float, address: str) -> Check:
    """Milliseconds for each of some generated tokens, on this machine; the best of three."""
    mlflow.set_tracking_uri(settings.tracking_uri())
    model: Any = mlflow.pyfunc.load_model(address)
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        model.predict([{"instruction": _ASKED}], params={"max_new_tokens": _TOKENS})
        taken.append(1000 * (time.perf_counter() - begin) / _TOKENS)
    return Check("time of a token", min(taken) <= most, f"{min(taken):.1f} ms at most, and {most:g} are allowed")
