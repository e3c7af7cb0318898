import ast
import inspect
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import params
from tasks.errors import UserError
from tests.data_fixtures import ROOT, sections, write_params
from tests.test_faults import check, faults


def test_the_repository_s_own_params_are_right() -> None:
    assert params.load(ROOT / "params.yaml").evaluate.suites


def test_what_is_not_said_takes_the_documented_default() -> None:
    wanted = check()
    assert (wanted.compute.engine, wanted.render.cap, wanted.train.lora.r) == ("local", 3_000, 16)


def test_every_value_is_documented_at_its_field() -> None:
    classes = [node for node in ast.parse(inspect.getsource(params)).body if isinstance(node, ast.ClassDef)]
    for body in (node.body for node in classes if node.name not in ("Section", "Params")):
        for field, after in zip(body, [*body[1:], None], strict=True):
            assert not isinstance(field, ast.AnnAssign) or isinstance(after, ast.Expr), ast.unparse(field)


def test_a_suite_is_a_held_out_cluster_or_included() -> None:
    told = faults(evaluate={"suites": ["infrence"]})[1]
    assert "'infrence' is no held-out cluster of render.held_out, nor a suite of evaluate.include: write the" in told
    assert "did you mean inference?" in told
    assert check(evaluate={"suites": ["mine"], "include": {"mine": "folder"}}).evaluate.suites == ["mine"]


def test_an_included_suite_has_a_name_of_its_own() -> None:
    told = faults(evaluate={"include": {"inference": "folder"}})[1]
    assert "evaluate.include: 'inference' is a held-out cluster already" in told


def test_a_package_needs_a_file_and_a_folder_has_none() -> None:
    told = "`file` is required for source `package`, and for no other"
    assert told in faults(model={"source": "package"})[1]
    assert told in faults(model={"file": "model.gguf"})[1]


@pytest.mark.parametrize("name", ["../up", "Upper", "a b", "", "a/b", "x" * 61])
def test_a_source_s_name_must_be_fit_for_a_path(name: str) -> None:
    told = faults(ingest={"sources": {name: {"path": "a", "format": "alpaca"}}})
    assert any(line.strip().startswith("ingest.sources") for line in told)


def test_a_related_cluster_is_excluded_by_the_held_out_one() -> None:
    excluded = check(render={"related": {"inference": ["paraphrase"]}}).render.excluded()
    assert excluded == {"inference": "inference", "paraphrase": "inference"}


@pytest.mark.parametrize("name", ["infrence", "sentiment"])
def test_what_is_related_to_no_held_out_cluster_is_refused_with_the_remedy(name: str) -> None:
    [_, told] = faults(render={"related": {name: ["paraphrase"]}})
    assert told.startswith(f"  render.related: {name!r} is no held-out cluster")
    assert "remove the entry" in told
    assert ("did you mean inference?" in told) == (name == "infrence")


def test_params_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        check().pack.row_tokens = 5


def test_a_missing_file_tells_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run the command in the repository's root"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"compute: [", "no valid YAML"),
        (b"compute: \xe9\n", "not UTF-8"),
        (b"", "must be a mapping"),
        (b"- 1\n", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_params_file_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"params.yaml: {told}"):
        params.load(path)


def test_merge_lays_values_over_their_section_and_keeps_the_rest(tmp_path: Path) -> None:
    write_params(tmp_path, train={"epochs": 3})
    params.merge({"train": {"lora": {"r": 4}}}, tmp_path / "params.yaml")
    train = params.load(tmp_path / "params.yaml").train
    assert (train.epochs, train.lora.r) == (3, 4)


def test_merge_replaces_a_list_as_a_whole(tmp_path: Path) -> None:
    write_params(tmp_path)
    params.merge({"render": {"held_out": ["topic", "inference"]}}, tmp_path / "params.yaml")
    assert params.load(tmp_path / "params.yaml").render.held_out == ["topic", "inference"]


def test_a_wrong_merge_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_params(tmp_path)
    before = (tmp_path / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"train\.epochs"):
        params.merge({"train": {"epochs": 0}}, tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_an_unknown_command_tells_the_usage() -> None:
    with pytest.raises(UserError, match=r"usage: python -m tasks\.params"):
        params.main(["mend"])


@settings(deadline=None, database=None)
@given(threads=st.integers(-10, 500), rank=st.integers(-10, 2_000))
def test_a_number_is_accepted_exactly_within_its_range(threads: int, rank: int) -> None:
    values = yaml.safe_load(yaml.safe_dump(sections(compute={"threads": threads}, train={"lora": {"r": rank}})))
    if 1 <= threads <= 256 and 1 <= rank <= 1_024:
        assert params.check(values, Path("params.yaml")).compute.threads == threads
    else:
        with pytest.raises(UserError):
            params.check(values, Path("params.yaml"))
