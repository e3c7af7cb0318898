"""A copy of the repository at a small size, in which real commands run."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow import MlflowClient

from tests.data_fixtures import ROOT
from tests.project import PARTS, small_params


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository, most often with a small starter mixture and a tiny model."""

    root: Path

    def run(self, *command: str, **environment: str) -> str:
        """Run a command in it; returns what it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**outside(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def flow(self, **environment: str) -> str:
        """Run the flow."""
        return self.run(sys.executable, "-m", "flows.pipeline", **environment)

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def change(self, section: str, key: str, value: object) -> None:
        """Change one value of params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        values[section][key] = value
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def versions(self) -> list[str]:
        """The registered versions."""
        client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        return [str(version.version) for version in client.search_model_versions("name = 'instructflow'")]


def clone(root: Path) -> Checkout:
    """A clone of this tree's commit, whole and with nothing that git does not hold."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(root)], check=True)
    made = Checkout(root)
    for words in ("remote remove origin", "config user.name a", "config user.email a@example.org"):
        made.run("git", *words.split())
    return made


def outside() -> dict[str, str]:
    """The environment without the settings of whoever runs the tests, which may be that Python writes no bytecode."""
    without = ("MLFLOW_", "PREFECT_", "DVC_", "AWS_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def ran(output: str) -> set[str]:
    """The stages that DVC says it ran."""
    return {line.split("'")[1] for line in output.splitlines() if "Running stage '" in line}


def checkout(root: Path, model: Path) -> Checkout:
    """Copy what git tracks, and make it small."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        path = Path(name)
        in_starter = path.parts[:3] == ("tasks", "ingest", "starter")
        if (ROOT / path).is_file() and (not in_starter or path.parts[3] in PARTS):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, root / path)
    (root / "dvc.lock").unlink(missing_ok=True)
    (root / "params.yaml").write_text(
        yaml.safe_dump(small_params(model, Path("tasks/ingest/starter")), sort_keys=False)
    )
    for command in ("init -q", "config user.name a", "config user.email a@example.org"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    return Checkout(root)
