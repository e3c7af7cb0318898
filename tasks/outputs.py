"""Outputs appear whole or not at all, and have a digest."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path`; what the block writes there takes the place of `path` when the block ends well.

    After an error `path` is as it was, and nothing half-written is left.
    """
    scratch = path.with_name(f".{path.name}.partial")
    _remove(scratch)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        _remove(path)
        os.replace(scratch, path)
    finally:
        _remove(scratch)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like `whole`, with the scratch folder made."""
    with whole(path) as scratch:
        scratch.mkdir()
        yield scratch


def write_json(path: Path, value: object) -> None:
    """Write `value` in the one form in which equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def digest_path(path: Path) -> str:
    """The SHA-256 of a file's bytes, or of a folder's relative file names and their bytes.

    Python's bytecode is no part of it. Raises FileNotFoundError where there is nothing.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(path)
    whole_digest = hashlib.sha256()
    files = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    for file in sorted(files, key=lambda file: file.relative_to(path).as_posix()):
        whole_digest.update(f"{file.relative_to(path).as_posix()}\0{digest_path(file)}\n".encode())
    return whole_digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
