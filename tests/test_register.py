"""A registered version is there once, loads anywhere, and comes back when the registry was emptied."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas
import polars
import pytest
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM

from tasks import settings, tracking
from tasks.chat import Chat
from tasks.examples import Example, read_examples, write_examples
from tasks.params import dotted
from tasks.records import person_digest, write_records
from tasks.register import __main__ as register
from tasks.register import costs, files, packages, registry, trained_on
from tasks.render.templates import Template, render
from tests import registered
from tests.data_fixtures import ROOT, record
from tests.project import Project

EXPERIMENT = "instructflow"


def versions(project: Project) -> list[str]:
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    return [version.version for version in client.search_model_versions("name = 'instructflow'")]


def test_the_same_fingerprint_makes_no_second_version(in_project: Project) -> None:
    register.ensure()
    assert versions(in_project) == [1]


def test_the_same_adapter_with_other_results_stays_one_version_and_stores_both(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    before = client.get_model_version("instructflow", "1").tags["instructflow.results"]
    samples = in_project.root / "reports/evaluate/tuned/inference/samples.jsonl"
    sound = samples.read_text(encoding="utf-8")
    try:
        samples.write_text("".join(sorted(sound.splitlines(keepends=True))), encoding="utf-8")
        register.run()
        version = client.get_model_version("instructflow", "1")
        after = version.tags["instructflow.results"]
        assert after == json.loads(register.LINEAGE.read_text(encoding="utf-8"))["digests"]["results"] != before
        kept = {Path(file.path).name for file in client.list_artifacts(str(version.run_id), files.EVALUATION)}
        assert kept == {before[:16], after[:16]}
        assert versions(in_project) == [1]
    finally:
        samples.write_text(sound, encoding="utf-8")
        register.run()


def test_a_variant_of_a_sweep_is_not_registered(
    in_project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("DVC_EXP_NAME", "odd-name")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert settings.tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    register.run()
    assert "not registered: odd-name is a variant" in capsys.readouterr().out
    assert not (tmp_path / "mlflow.db").exists()


ELSEWHERE = """
import importlib.util, json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/instructflow@candidate")
rows = [
    {"instruction": "Say it."},
    {"instruction": "Say it", "input": "twice."},
    {"messages": [{"role": "user", "content": "Say it."}]},
]
answers = model.predict(rows, params={"max_new_tokens": 4})
print(json.dumps([answers, importlib.util.find_spec("tasks") is None]))
"""


def test_a_version_answers_without_the_repository_instruction_input_or_conversation(
    in_project: Project, tmp_path: Path
) -> None:
    address = f"sqlite:///{in_project.root / 'mlflow.db'}"
    command = [sys.executable, "-I", "-c", ELSEWHERE, address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers, apart = json.loads(done.stdout.splitlines()[-1])
    assert apart
    assert len(answers) == 3
    assert answers[0] == answers[2]


def test_versions_of_one_base_share_it_in_a_process(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{in_project.root / 'mlflow.db'}")
    first = mlflow.pyfunc.load_model("models:/instructflow/1")
    read: list[object] = []
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *words, **_: read.append(words))
    second = mlflow.pyfunc.load_model("models:/instructflow/1")
    row = [{"instruction": "Say it."}]
    assert read == []
    assert first.predict(row, params={"max_new_tokens": 3}) == second.predict(row, params={"max_new_tokens": 3})


def test_the_base_is_logged_once_and_the_version_holds_the_adapter_alone(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    lineage = json.loads((in_project.root / "reports/register/lineage.json").read_text())
    own = registered.logged_model(client, "1")
    [base] = client.search_logged_models([own.experiment_id], "name = 'base'")
    assert base.tags[packages.BASE] == lineage["digests"]["base"]
    weights = [path.name for path in Path(own.artifact_location.removeprefix("file://")).rglob("*.safetensors")]
    assert weights == ["adapter_model.safetensors"]


def test_a_version_s_requirements_are_those_of_the_lock_file(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    place = registered.logged_model(client, "1").artifact_location
    wanted = (Path(place.removeprefix("file://")) / "requirements.txt").read_text().split()
    assert set(wanted) <= set((ROOT / "requirements.lock").read_text().split())
    names = {line.partition("==")[0] for line in wanted}
    assert {"mlflow", "torch", "transformers", "peft", "jinja2", "tokenizers"} <= {name.lower() for name in names}
    assert not {"prefect", "dvc", "lm_eval"} & names


def test_scores_belong_to_the_logged_model_and_the_newest_version_is_the_candidate(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    version = client.get_model_version_by_alias("instructflow", "candidate")
    metrics = {metric.key for metric in registered.logged_model(client, version.version).metrics}
    summary = json.loads((in_project.root / "reports/report/summary.json").read_text())
    assert metrics == set(dotted(summary))
    assert version.tags["instructflow.licences"] == "Apache-2.0"


def test_the_served_prompt_is_the_trained_one(in_project: Project) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{in_project.root / 'mlflow.db'}")
    served = mlflow.pyfunc.load_model("models:/instructflow/1").unwrap_python_model()
    asked: list[str] = []
    decode = served.tokenizer.apply_chat_template

    def listening(*words: object, **options: object) -> str:
        asked.append(decode(*words, **options))
        return asked[-1]

    served.tokenizer.apply_chat_template = listening
    served.predict(None, pandas.DataFrame({"instruction": ["Say it."]}), {"max_new_tokens": 1})
    assert asked == [Chat.load(register.BASE).prompt("Say it.")]


def test_a_version_tells_what_it_was_made_from(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    tags = client.get_model_version("instructflow", "1").tags
    lineage = json.loads((in_project.root / "reports/register/lineage.json").read_text())
    assert tags[tracking.FINGERPRINT] == lineage["fingerprint"]
    assert tags["instructflow.adapter"] == lineage["digests"]["adapter"]
    files = {
        file.path for file in client.list_artifacts(client.get_model_version("instructflow", "1").run_id, "lineage")
    }
    assert {"lineage/lineage.json", "lineage/params.yaml"} <= files


def test_the_training_s_curve_is_in_mlflow_as_in_the_history(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    history = json.loads((in_project.root / "models/tuned/history.json").read_text())
    fingerprint = json.loads((in_project.root / "models/tuned/training.json").read_text())["fingerprint"]
    run = tracking.find(client, EXPERIMENT, fingerprint)
    assert run is not None
    assert run.info.status == "FINISHED"
    curve = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(point["step"], point["loss"]) for point in history]


def test_an_emptied_registry_is_filled_again_with_run_and_curve(
    in_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path / 'empty.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    register.ensure()
    client = MlflowClient(address)
    [version] = client.search_model_versions("name = 'instructflow'")
    history = json.loads((in_project.root / "models/tuned/history.json").read_text())
    assert len(client.get_metric_history(version.run_id, "loss")) == len(history)


def test_a_training_that_fails_ends_its_run_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(RuntimeError), tracking.training_run("failing", "f00d", {}) as run:
        raise RuntimeError("out of memory")
    assert run.client.get_run(run.id).info.status == "FAILED"


def test_a_failed_run_goes_on_when_the_same_training_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(RuntimeError), tracking.training_run("failing", "f00d", {}) as first:
        raise RuntimeError("out of memory")
    with tracking.training_run("failing", "f00d", {}) as second:
        second.log(1, {"loss": 1.0})
    assert second.id == first.id
    assert second.client.get_run(second.id).info.status == "FINISHED"


def test_a_version_tells_which_records_it_trained_on(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    used = next(read_examples(in_project.root / "data/render/examples.parquet")).record
    assert dict(trained_on.versions(client, "instructflow", [used], [])) == {"1": "1 record"}
    assert dict(trained_on.versions(client, "instructflow", ["starter/follows/0123456789abcdef"], ["Ada"])) == {}


def test_a_person_s_records_are_found_by_name_and_stored_without_it(tmp_path: Path) -> None:
    rows = [record(number)._replace(person=person_digest("Ada Example") if number else "") for number in range(3)]
    (tmp_path / "ingest/toy").mkdir(parents=True)
    write_records(tmp_path / "ingest/toy/records.parquet", rows)
    examples = [Example("e", row.id, row.task, row.cluster, "t", "h", "direct", ["a", "b"]) for row in rows[:2]]
    write_examples(tmp_path / "examples.parquet", examples)
    trained_on.write(tmp_path / "records.parquet", tmp_path / "examples.parquet", tmp_path / "ingest")
    stored = polars.read_parquet(tmp_path / "records.parquet").rows()
    assert stored == [(rows[0].id, ""), (rows[1].id, person_digest("Ada Example"))]


def test_a_record_that_is_only_an_exemplar_was_trained_on(tmp_path: Path) -> None:
    rows = [record(number) for number in range(3)]
    (tmp_path / "ingest/toy").mkdir(parents=True)
    write_records(tmp_path / "ingest/toy/records.parquet", rows)
    write_examples(
        tmp_path / "examples.parquet", [render(rows[0], Template(id="t", prompt="{{ premise }}"), rows[1:2])]
    )
    trained_on.write(tmp_path / "records.parquet", tmp_path / "examples.parquet", tmp_path / "ingest")
    assert polars.read_parquet(tmp_path / "records.parquet")["record"].to_list() == [rows[0].id, rows[1].id]


def test_the_report_in_mlflow_tells_what_the_stages_cost_and_the_declared_one_does_not(
    in_project: Project, tmp_path: Path
) -> None:
    register.ensure()
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    run = client.get_model_version("instructflow", "1").run_id
    logged = Path(client.download_artifacts(run, "report/report.html", str(tmp_path))).read_text(encoding="utf-8")
    declared = (in_project.root / "reports/report/report.html").read_text(encoding="utf-8")
    assert '<span class="label">evaluate@tuned-inference</span>' in logged
    assert costs.PLACE in declared
    assert 'id="costs"' not in declared
    links = json.loads((in_project.root / "build/links/register.json").read_text())
    assert links["Report"].endswith(f"/runs/{run}/artifacts/report/report.html")


def test_a_cost_is_told_in_minutes_with_the_longest_stage_first() -> None:
    told = costs.section([("short", {"seconds": 2.5, "peak_gib": 1}), ("long", {"seconds": 242, "peak_gib": 3.94})])
    assert told.index("long</span>") < told.index("short</span>")
    assert "4 min 02 s, 3.9 GiB" in told
    assert "4 min 04 s of work" in told


def test_a_description_is_cut_between_lines_where_the_registry_s_column_ends(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("A line of the report.\n" * 400)
    told = registry.description(tmp_path / "report.md")
    assert 4_900 < len(told) <= 5_000
    assert set(told.split("\n")) == {"A line of the report."}


def test_a_run_shows_its_data_set_with_digest_and_card(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    run = client.get_run(client.get_model_version("instructflow", "1").run_id)
    [data] = [given.dataset for given in run.inputs.dataset_inputs]
    lineage = json.loads((in_project.root / "reports/register/lineage.json").read_text())
    assert data.digest == lineage["digests"]["examples"][:16]
    assert json.loads(data.profile)["sources"] == 1
    assert "report/data_card.md" in {file.path for file in client.list_artifacts(run.info.run_id, "report")}
