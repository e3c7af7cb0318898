"""Decisions that the code must keep: what imports what, and that graph, params and stages agree."""

import ast
import functools
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows import graph
from tasks import params
from tasks.errors import UserError
from tasks.params import Params
from tests.mutants import MUTANTS, Mutant

CODE = [*sorted(Path("tasks").rglob("*.py")), *sorted(Path("flows").glob("*.py"))]
SHARED = {
    Path("tasks", name)
    for name in (
        "__init__.py", "console.py", "errors.py", "faults.py", "nodes.py", "outputs.py", "parallel.py", "params.py",
        "settings.py", "sheets.py", "tables.py", "tracking.py",
    )
}  # fmt: skip
"""Shared rooms whose change does not change what a stage writes: they show, name, refuse, read and address."""


@cache
def dvc_yaml() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    return loaded


def stages() -> dict[str, dict[str, Any]]:
    return {name: stage.get("do", stage) for name, stage in dvc_yaml()["stages"].items()}


def imports(path: Path) -> set[str]:
    """The modules that a file imports; `from a import b` counts as a.b and as a."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def files_of(module: str) -> list[Path]:
    path = Path(*module.split("."))
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]


def own_imports(package: Path) -> set[Path]:
    """The project's files that a stage's package imports, also through others."""
    waiting, seen = list(package.rglob("*.py")), set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [file for module in imports(path) if module.startswith("tasks") for file in files_of(module)]
    return seen


def test_tasks_import_neither_prefect_nor_flows_and_ray_where_work_is_spread_alone() -> None:
    found = {(path.as_posix(), name.split(".")[0]) for path in Path("tasks").rglob("*.py") for name in imports(path)}
    assert {one for one in found if one[1] in {"prefect", "ray", "flows"}} == {("tasks/nodes.py", "ray")}


def test_the_graph_is_read_without_prefect() -> None:
    assert not any(name.startswith("prefect") for name in imports(Path("flows/graph.py")))


def test_only_the_cluster_s_module_imports_ray_and_what_runs_on_its_nodes_no_prefect() -> None:
    found = {path.name: imports(path) for path in Path("flows").glob("*.py")}
    assert [name for name, names in found.items() if any(one.split(".")[0] == "ray" for one in names)] == ["cluster.py"]
    waiting, seen = ["flows.away"], set()
    while waiting:
        for path in files_of(waiting.pop()):
            if path not in seen:
                seen.add(path)
                waiting += imports(path)
    assert not [path for path in seen if any(name.startswith(("prefect", "ray")) for name in imports(path))]


def test_flows_name_no_stage() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in Path("flows").glob("*.py"))
    named = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert not named & set(stages())


@pytest.mark.parametrize("stage", stages())
def test_a_stage_is_the_package_of_the_same_name(stage: str) -> None:
    assert Path("tasks", stage, "__main__.py").is_file()
    assert stages()[stage]["cmd"].startswith(f"python -m tasks.{stage} run")


@pytest.mark.parametrize("stage", stages())
def test_what_a_stage_imports_is_among_its_deps(stage: str) -> None:
    deps = {Path(dep) for dep in stages()[stage]["deps"] if not dep.startswith("$")}
    needed = {path for path in own_imports(Path("tasks", stage)) if path not in SHARED}
    covered = {path for path in needed if deps & {path, *path.parents}}
    inits = {path for path in needed if path.name == "__init__.py"}
    assert needed - covered - inits == set()


@pytest.mark.parametrize("stage", stages())
def test_every_dep_in_the_repository_exists(stage: str) -> None:
    assert not [dep for dep in stages()[stage]["deps"] if dep.startswith("tasks/") and not Path(dep).exists()]


@pytest.mark.parametrize("stage", stages())
def test_a_stage_s_outs_lie_in_one_folder_of_its_own(stage: str) -> None:
    outs = [*stages()[stage].get("outs", []), *stages()[stage].get("metrics", [])]
    home = {"fetch": "models/base", "train": "models/tuned"}.get(stage, rf"(data|reports)/{stage}")
    assert all(re.match(rf"{home}(/|$)", out) for out in outs)


@pytest.mark.parametrize("stage", stages())
def test_a_stage_depends_on_params_that_exist(stage: str) -> None:
    sections = {field.alias or name for name, field in Params.model_fields.items()}
    assert {name.split(".")[0] for name in stages()[stage]["params"]} <= sections


def tracked() -> set[str]:
    """The params that dvc.yaml names, by dotted path: those of stages, and those that give stages their number."""
    named = {name for stage in stages().values() for name in stage["params"] if "$" not in name}
    return named | set(re.findall(r"\$\{((?!item|key)[a-z_.]+)\}", Path("dvc.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(tracked()))
def test_params_without_a_value_that_dvc_yaml_names_are_refused(name: str) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    *sections, key = name.split(".")
    del functools.reduce(dict.__getitem__, sections, values)[key]
    with pytest.raises(UserError, match=rf"^params\.yaml: 1 fault\n  {re.escape(name)}: missing$"):
        params.check(values, Path("params.yaml"))


@pytest.mark.parametrize("stage", stages())
def test_what_a_stage_grows_with_is_a_number_of_the_params(stage: str) -> None:
    values = params.dotted(params.load().model_dump(by_alias=True))
    sizes = stages()[stage]["meta"].get("grows_with", {})
    assert all(values[key] > 0 and size > 0 for key, size in sizes.items())


def test_every_section_of_the_params_is_some_stage_s_or_the_gate_s() -> None:
    used = {name.split(".")[0] for stage in stages().values() for name in stage["params"]}
    assert used | {"gate"} == {field.alias or name for name, field in Params.model_fields.items()}
    assert "gate" not in used  # it judges what stages made, beside the registry's state


def test_the_gate_is_no_stage_and_one_stage_names_it() -> None:
    commands = [stage["meta"]["gate"]["command"] for stage in stages().values() if "gate" in stage["meta"]]
    assert commands == ["python -m tasks.promote run"]
    assert "promote" not in stages()


@pytest.mark.parametrize("stage", stages())
def test_a_stage_reads_only_the_sections_it_depends_on(stage: str) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in Path("tasks", stage).rglob("*.py"))
    read = set(re.findall(r"(?:params\.load\(\)|wanted|everything)\.(\w+)", text)) & set(Params.model_fields)
    assert {name.rstrip("_") for name in read} <= {name.split(".")[0] for name in stages()[stage]["params"]} | {
        "register"  # training names the experiment of its run, which changes no byte
    }


def test_metrics_and_plots_lie_in_what_stages_write() -> None:
    outs = [out for stage in stages().values() for out in [*stage.get("outs", []), *stage.get("metrics", [])]]
    declared = [
        *dvc_yaml()["metrics"],
        *(name for plot in dvc_yaml()["plots"] for name in ([plot] if isinstance(plot, str) else plot)),
    ]
    assert not [path for path in declared if not any(path.startswith(out) for out in outs)]


def test_stages_that_do_not_depend_on_each_other_are_apart_in_the_graph() -> None:
    edges = {stage.address: stage.upstream for stage in graph.plan().stages}
    assert edges["evaluate@base-inference"] == {"fetch", "render"}
    assert edges["evaluate@tuned-inference"] == {"fetch", "render", "train"}


@pytest.mark.parametrize("stage", stages())
def test_every_stage_explains_itself(stage: str) -> None:
    command = importlib.import_module(f"tasks.{stage}.__main__")
    done = CliRunner().invoke(command.app, ["run", "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def test_functions_are_short() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[len(lengths) * 9 // 10] <= 35


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_breakage_fits_the_code_and_its_test_is_there(mutant: Mutant) -> None:
    file, name = mutant.test.split("::")
    assert mutant.old in Path(mutant.file).read_text(encoding="utf-8")
    assert f"def {name.split('[')[0]}(" in Path("tests", file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["requirements.lock", "infra/ray.lock"])
def test_the_lock_file_pins_every_package_exactly(name: str) -> None:
    lines = Path(name).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!_-]+", line)]


def test_what_is_installed_is_what_is_locked() -> None:
    from importlib import metadata

    locked = dict(line.split("==") for line in Path("requirements.lock").read_text(encoding="utf-8").splitlines())
    wrong = {name: version for name, version in locked.items() if metadata.version(name).split("+")[0] != version}
    assert wrong == {}
