"""A version's chain is computed again, and a link that changed is named."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from mlflow import MlflowClient

from tasks import lineage, outputs, settings
from tasks.errors import UserError
from tasks.register import __main__ as register
from tasks.register import chain, difference, registry, stored, verify
from tasks.register.verify import State
from tests import registered
from tests.project import Project
from tests.test_checkouts import Git, git  # noqa: F401  # a fixture
from tests.test_faults import check

VERSION = "models:/instructflow/1"


def links(project: Project, scratch: Path) -> dict[str, verify.Link]:
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    return {link.name: link for link in verify.links(client, stored.read(client, VERSION, scratch))}


@contextmanager
def changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """A file with other bytes, for a while."""
    sound = path.read_bytes()
    path.write_bytes(change(sound))
    try:
        yield
    finally:
        path.write_bytes(sound)


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_every_link_of_a_fresh_version_holds(in_project: Project, tmp_path: Path) -> None:
    found = links(in_project, tmp_path)
    assert not [link for link in found.values() if link.state is State.BROKEN]
    sound = {"version", "fingerprint", "adapter", "params", "base", "chat template", "shards", "examples", "templates"}
    sound |= {"records", "source starter", "benchmarks", "results", "report", "requirements", "code tasks/train"}
    assert sound <= {name for name, link in found.items() if link.state is State.SOUND}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("adapter", "models/tuned/adapter_model.safetensors"),
        ("shards", "data/pack/tokens.npy"),
        ("base", "models/base/config.json"),
        ("examples", "data/render/examples.parquet"),
        ("source starter", "starter/topic/news_topic.yaml"),
        ("benchmarks", "data/render/benchmarks/inference/follows.jsonl"),
    ],
)
def test_a_changed_link_is_named(in_project: Project, name: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with changed(in_project.root / file, flipped), pytest.raises(UserError, match=f"the chain breaks at: {name} "):
        register.check(VERSION)
    assert "BROKEN" in capsys.readouterr().out


def test_a_flipped_bit_in_the_registry_s_adapter_is_named(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    place = registered.logged_model(client, "1").artifact_location
    [adapter] = Path(place.removeprefix("file://")).rglob("adapter_model.safetensors")
    with changed(adapter, flipped), pytest.raises(UserError, match=r"the chain breaks at: adapter .*the registry has"):
        register.check(VERSION)


def test_a_swapped_record_in_a_shard_is_named(in_project: Project) -> None:
    def swapped(content: bytes) -> bytes:
        return content[:128] + content[192:256] + content[128:192] + content[256:]

    with changed(in_project.root / "data/pack/tokens.npy", swapped), pytest.raises(UserError, match="at: shards"):
        register.check(VERSION)


def test_an_edited_template_is_named(in_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(chain.CHAIN["templates"], tmp_path / "templates")
    monkeypatch.setitem(chain.CHAIN, "templates", copy)
    register.check(VERSION)
    edited = changed(copy / "topic/news_topic.yaml", lambda content: content + b"# edited\n")
    with edited, pytest.raises(UserError, match="the chain breaks at: templates"):
        register.check(VERSION)


def test_where_a_model_was_computed_is_no_part_of_its_fingerprint() -> None:
    assert lineage.training_values(check(compute={"engine": "ray"})) == lineage.training_values(check())
    assert lineage.training_values(check(compute={"threads": 3})) != lineage.training_values(check())


def test_an_address_that_names_no_version_is_refused(in_project: Project) -> None:
    for address, said in (("instructflow/1", "write models:/NAME/VERSION"), ("models:/instructflow/9", "no such")):
        with pytest.raises(UserError, match=said):
            register.check(address)


def test_a_version_of_another_tree_is_looked_for_in_dvc_s_cache(tmp_path: Path) -> None:
    folder = tmp_path / "data/pack"
    folder.mkdir(parents=True)
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")
    entries = []
    for name, md5 in (("a", "11aa"), ("b", "22bb")):
        (tmp_path / "cache" / md5[:2]).mkdir(parents=True)
        shutil.copyfile(folder / name, tmp_path / "cache" / md5[:2] / md5[2:])
        entries.append({"md5": md5, "relpath": name})
    (tmp_path / "cache/33").mkdir()
    (tmp_path / "cache/33/cc.dir").write_text(json.dumps(entries))
    lock = yaml.safe_load("stages: {pack: {outs: [{path: data/pack, md5: 33cc.dir}]}}")
    places = chain.Places(here=False, lock=lock, cache=tmp_path / "cache", commit="")
    assert list(places.digests(Path("data/pack"))) == [("DVC's cache", outputs.digest_path(folder))]
    assert list(places.digests(Path("data/pack/b"))) == [("DVC's cache", outputs.digest_path(folder / "b"))]
    (tmp_path / "cache/22/bb").unlink()
    assert list(places.digests(Path("data/pack"))) == []


def test_what_the_cache_lacks_is_fetched_from_dvc_s_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("one")
    with Repo.init(str(tmp_path), no_scm=True) as repo, repo.config.edit() as config:
        config["core"] |= {"analytics": False, "remote": "shelf"}
        config["remote"]["shelf"] = {"url": str(tmp_path / "shelf")}
    with Repo(str(tmp_path)) as repo:
        [stage] = repo.add(str(tmp_path / "data"))
        repo.push()
    cache, out = tmp_path / ".dvc/cache/files/md5", {"path": "data", "md5": stage.outs[0].hash_info.value}
    shutil.rmtree(cache)
    lock = {"stages": {"one": {"outs": [out]}}}
    places = chain.Places(here=False, lock=lock, cache=cache, commit="")
    assert list(places.digests(Path("data"))) == []
    chain.fetch(lock)
    assert list(places.digests(Path("data"))) == [("DVC's cache", outputs.digest_path(tmp_path / "data"))]


def test_a_file_of_a_commit_has_the_digest_of_its_bytes() -> None:
    places = chain.Places(here=False, lock={}, cache=None, commit="HEAD")
    [(place, _)] = places.digests(chain.CHAIN["templates"])
    assert place == "commit HEAD"


def test_a_version_differs_from_itself_in_nothing(in_project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    register.differ(VERSION, VERSION)
    assert "they are the same" in capsys.readouterr().out


def test_what_differs_between_two_versions_is_told_with_both_sides(in_project: Project, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    one, other = (stored.read(client, VERSION, tmp_path / name) for name in ("one", "other"))
    values, made_from = other.params, other.made_from
    values["train"]["learning_rate"] = 0.5
    made_from["digests"]["shards"] = "f00d" * 16
    (other.lineage / "params.yaml").write_text(yaml.safe_dump(values))
    (other.lineage / "lineage.json").write_text(json.dumps(made_from))
    told = {(item.kind, item.name): item.after for item in difference.of(client, one, other)}
    assert told == {("value", "train.learning_rate"): "0.5", ("chain", "shards"): '"f00df00df00d"'}


def test_a_changed_setting_beside_the_weights_is_named(in_project: Project) -> None:
    client = MlflowClient(f"sqlite:///{in_project.root / 'mlflow.db'}")
    place = registered.logged_model(client, "1").artifact_location
    [settings_of_it] = Path(place.removeprefix("file://")).rglob("adapter_config.json")
    doubled = changed(settings_of_it, lambda content: content.replace(b'"lora_alpha": ', b'"lora_alpha": 1'))
    with doubled, pytest.raises(UserError, match=r"the chain breaks at: tuned .*the registry has"):
        register.check(VERSION)


def test_a_version_is_written_as_one_model(in_project: Project, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    register.write_merged(VERSION, tmp_path / "whole")
    AutoModelForCausalLM.from_pretrained(tmp_path / "whole", use_safetensors=True, local_files_only=True)
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template
    assert (tmp_path / "whole/README.md").read_text(encoding="utf-8").startswith("---")


def test_another_lock_does_not_make_a_tree_a_changed_one(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(settings, "ROOT", Path.cwd())
    Path("dvc.lock").write_text("stages: {train: {}}\n")
    assert registry.commit() == {"instructflow.commit": git("rev-parse", "HEAD"), "instructflow.dirty": "false"}
    Path("grid.yaml").write_text("seeds: [2]\n")
    assert registry.commit()["instructflow.dirty"] == "true"
