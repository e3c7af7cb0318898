"""Outputs appear whole or not at all, and have a digest."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path`; what the block writes there takes the place of `path` when the block ends well.

    After an error `path` is as it was, and nothing half-written is left.
    """
    scratch, previous = (path.with_name(f".{path.name}.{name}") for name in ("partial", "previous"))
    _remove(scratch)
    _remove(previous)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        if path.is_dir():
            path.replace(previous)
        try:
            scratch.replace(path)
        except OSError:
            if previous.exists():
                previous.replace(path)
            raise
    finally:
        _remove(scratch)
        _remove(previous)


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
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(path)
    files = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return digest_files({file.relative_to(path).as_posix(): digest_path(file) for file in files})


def digest_files(digests: Mapping[str, str]) -> str:
    """The digest of a folder that holds files of these relative names and digests."""
    lines = (f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Drop the folders in `folder` that are not named; DVC leaves the outs of removed stages behind."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
