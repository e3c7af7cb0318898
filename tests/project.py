"""A small project: params for a tiny model and a part of the starter mixture, and its stages run in this process."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import outputs, params
from tasks.evaluate import __main__ as evaluate
from tasks.fetch import __main__ as fetch
from tasks.ingest import __main__ as ingest
from tasks.pack import __main__ as pack
from tasks.register import __main__ as register
from tasks.render import __main__ as render
from tasks.report import __main__ as report
from tasks.train import __main__ as train
from tests import tiny
from tests.data_fixtures import ROOT, STARTER

PARTS = ("_tables", "inference", "paraphrase", "topic", "formatting")
"""What of the starter mixture a small project takes: one held-out cluster, its relation, and two to train on."""


@dataclass(frozen=True)
class Project:
    """A folder in which stages run."""

    root: Path

    @property
    def params(self) -> params.Params:
        """Its params."""
        return params.load(self.root / "params.yaml")

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Make it the working folder, with a tracking store of its own."""
        patch.chdir(self.root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.root / 'mlflow.db'}")

    def run_all(self) -> None:
        """Every stage once, in order."""
        with pytest.MonkeyPatch.context() as patch:
            self.enter(patch)
            fetch.run()
            ingest.run("starter")
            render.run()
            pack.run()
            train.run()
            for model in ("base", "tuned"):
                evaluate.run(model, "inference")
            report.run()
            register.run()


def small_params(model: Path, starter: Path) -> dict[str, Any]:
    """The repository's params at a size for tests."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["model"] = {"source": "folder", "name": str(model), "revision": outputs.digest_path(model)}
    values["compute"]["dtype"] = "float32"
    values["ingest"]["sources"]["starter"]["path"] = str(starter)
    values["render"] |= {"examples": 24, "held_out": ["inference"], "documents": 12}
    values["pack"]["row_tokens"] = 700
    values["train"]["learning_rate"] = 0.01
    values["evaluate"] |= {"suites": ["inference"], "new_tokens": 4}
    return values


def make(root: Path, kind: str) -> Project:
    """A project in `root` on a tiny model of this kind."""
    root.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.copytree(STARTER / part, root / "starter" / part)
    values = small_params(tiny.write(root / "tiny", kind), root / "starter")
    values["evaluate"]["include"] = {}
    text = yaml.safe_dump(values, sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    return Project(root)
