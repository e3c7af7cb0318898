"""Public data as people bring it, where it lies beside the repository; none of it is part of the project."""

from pathlib import Path

import pytest
import yaml

from tasks import params
from tasks.ingest.__main__ import sort_out
from tasks.ingest.formats import FORMATS
from tasks.ingest.origin import Origin
from tasks.shards import read_shards
from tests import project

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "train"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


@pytest.mark.parametrize(
    ("name", "rows"), [("alpaca_en_demo", 999), ("identity", 91), ("rasbt_instruction_data", 1100)]
)
def test_every_row_of_an_alpaca_file_is_used_or_rejected_with_a_reason(name: str, rows: int) -> None:
    origin = Origin(name, DATA / f"{name}.json", name, "Apache-2.0")
    records, rejects = sort_out(FORMATS["alpaca"](origin))
    assert len(records) + len(rejects) == rows
    assert len(records) > 0.8 * rows
    assert all(reject.reason and reject.place for reject in rejects)


def test_changing_params_alone_trains_on_an_alpaca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project.make(tmp_path, "with_bos")
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["ingest"]["sources"]["starter"]["train"] = False
    values["ingest"]["sources"]["mine"] = {"format": "alpaca", "path": str(DATA / "alpaca_en_demo.json")}
    values["render"]["examples"] = 30
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    params.load(tmp_path / "params.yaml")
    with monkeypatch.context() as patch:
        made.enter(patch)
        project.ingest.run("mine")
    made.run_all()
    assert {name.split("/")[0] for name in read_shards(tmp_path / "data/pack").examples(0)} == {"mine"}
    assert (tmp_path / "models/tuned/adapter_model.safetensors").is_file()
