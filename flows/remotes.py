"""DVC's remote, over which data and results travel: asked before hours of work, and what a failed transfer says."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError
from dvc.repo import Repo

from flows.checkouts import run
from tasks.errors import UserError

LOGINS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and make the bucket where it is missing",
    "ssh": "`ssh` must reach that host without a question, with the key that ~/.ssh/config names",
}
"""What lets a machine in, by the scheme of a remote's address."""


def check_access(folder: Path, say: Callable[[str], None]) -> None:
    """Raise UserError where the default remote of a checkout refuses this machine.

    One that does not answer may come back until the run ends: that is told, and no error.
    """
    with Repo(str(folder)) as repo:
        if (name := _default(repo)) is None:
            return
        try:
            remote = repo.cloud.get_remote(name)
            ask(remote.fs, remote.path)
        # Each client has errors of its own, and none has one for all of them.
        except Exception as error:
            told = f"DVC's remote {name}: {_first_line(error)}"
            if not refuses(error):
                say(f"{told}; the run begins, and its results go there when it answers")
                return
            scheme = repo.config["remote"][name]["url"].partition("://")[0]
            raise UserError(f"{told}; {LOGINS.get(scheme, 'see `dvc remote list`')}") from error


def ask(files: Any, path: str) -> None:
    """Ask a remote for what lies at a path, if only one name: any answer will do, an error tells that it refuses."""
    if files.protocol == "s3":  # `exists` takes a bucket that is missing for one that is empty
        bucket, _, prefix = path.partition("/")
        files.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    else:
        files.exists(path)


def refuses(error: Exception) -> bool:
    """Whether an error is a remote's answer, and not the lack of one."""
    if isinstance(error, OSError):
        return isinstance(error, PermissionError | FileNotFoundError) or error.errno == errno.EINVAL
    return not isinstance(error, NoConnection | HTTPClientError)


def push(folder: Path) -> bool:
    """Bring what a run made to the default remote; whether there is one. Raises UserError where it fails."""
    with Repo(str(folder)) as repo:
        if _default(repo) is None:
            return False
    transfer(folder, "push")
    return True


def transfer(folder: Path, *words: str) -> None:
    """Let DVC push or pull. Raises UserError in one line where it fails."""
    try:
        run(["dvc", *words], folder)
    except UserError as error:
        told = [line.removeprefix("ERROR: ") for line in str(error).splitlines() if line.startswith("ERROR: ")]
        why = told[-1].removeprefix("unexpected error - ") if told else str(error)
        raise UserError(
            f"`dvc {' '.join(words)}`: {why}; what arrived stays, the same again brings the rest"
        ) from error


def _default(repo: Repo) -> str | None:
    name = repo.config["core"].get("remote")
    return None if name is None else str(name)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
