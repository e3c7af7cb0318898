"""vLLM in place of the own scorer gives its numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.chat import Chat
from tasks.evaluate import __main__ as evaluate
from tests import tiny
from tests.checkout import outside
from tests.data_fixtures import ROOT
from tests.project import Project, make
from tests.test_generation import asked
from tests.test_scorer import random_requests

# Its warnings are its own business with other libraries.
pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

ROOM = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB of cache where there is no GPU; vLLM would else ask for nine tenths of the machine's memory."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which every stage has run, the benchmarks answered by the own scorer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.SIZES, "head_dim", 32)  # a width that vLLM's attention knows
        made = make(tmp_path_factory.mktemp("made"), "with_bos")
    made.run_all()
    return made


@pytest.fixture(scope="module")
def scorers(made: Project) -> list[Any]:
    """The tuned model in both."""
    base, adapter = made.root / "models/base", made.root / "models/tuned"
    chat, wanted = Chat.load(base), made.params
    both = [
        wanted.model_copy(update={"evaluate": wanted.evaluate.model_copy(update={"backend": backend})})
        for backend in ("own", "vllm")
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ROOM.items():
            patch.setenv(name, value)
        return [evaluate.load(base, adapter, chat, one) for one in both]


def test_log_likelihoods_are_the_own_scorer_s(scorers: list[Any]) -> None:
    questions = random_requests(1, 20, 50, 130, shared=list(range(3, 203)))
    own, told = (one._loglikelihood_tokens(questions) for one in scorers)
    assert [score for score, _ in told] == pytest.approx([score for score, _ in own], abs=1e-3)
    assert [greedy for _, greedy in told] == [greedy for _, greedy in own]


def test_answers_and_how_they_end_are_the_own_scorer_s(scorers: list[Any], made: Project) -> None:
    questions = asked(Chat.load(made.root / "models/base"), "\n")
    own, told = (one.generate_until(questions) for one in scorers)
    assert told == own
    assert scorers[1].endings == scorers[0].endings


def test_a_prompt_that_is_too_long_loses_its_beginning_and_its_end_is_known(scorers: list[Any], made: Project) -> None:
    [*_, question] = asked(Chat.load(made.root / "models/base"), "\n")
    prompt, options = question.args
    question.arguments = (prompt * 9, options)
    scorers[1].generate_until([question])
    assert (prompt * 9, options["max_gen_toks"]) in scorers[1].endings


def test_the_stage_gives_the_same_rows_and_tells_the_backend_and_its_version(made: Project) -> None:
    values = yaml.safe_load((made.root / "params.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["backend"] = "vllm"
    (made.root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-m", "tasks.evaluate", "run", "tuned", "inference", "--out", "through_vllm"]
    environment = {**outside(), **ROOM, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=made.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    own, told = made.root / "reports/evaluate/tuned/inference", made.root / "through_vllm"
    assert rows(told) == rows(own)
    measured = json.loads((told / "results.json").read_text(encoding="utf-8"))["measured"]
    assert (measured["backend"], "vllm" in measured["versions"]) == ("vllm", True)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows, but for half a letter at which an answer was cut off: vLLM does not give it."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [row | {"answer": row["answer"].rstrip("\ufffd")} for row in map(json.loads, lines)]
