"""Peers of a benchmark: processes that are all ready at once, while only the one whose turn it is computes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


class Peer:
    """A process of `module` that takes its turn when asked. Libraries in `folder` come first where one is named.

    A foreign one runs as its own users run it, without what `tasks` sets in the environment.
    """

    def __init__(
        self, module: str, name: str, *options: str, folder: Path | None = None, foreign: bool = False
    ) -> None:
        paths = [str(ROOT)] if folder is None else [str(ROOT), str(folder)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONWARNINGS": "ignore",
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
        }
        if foreign:
            environment.pop("OMP_WAIT_POLICY", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, *options],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = name
        self.ready = self._answer()

    def turn(self, **asked: Any) -> dict[str, Any]:
        """Let it take its turn with what it is asked. Returns its figures."""
        if self._process.stdin is None:
            raise UserError(f"{self.name}: takes no turns")
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        raise UserError(f"{self.name}: ended before it answered; its error stands above")
