"""The typed schema of params.yaml: each value is documented at its field, with unit and range.

`load` is the only reader of params.yaml. A wrong file is refused with all its faults at once, each at its dotted path.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks import errors, faults, outputs, sheets
from tasks.errors import UserError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
"""A name that may stand in a path: lower-case letters, digits, `_` and `-`."""


class Section(BaseModel):
    """A part of params.yaml; keys that it does not know are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


class Compute(Section):
    """How every stage computes. Part of the fingerprint: another number of threads sums in another order."""

    threads: Annotated[int, Field(ge=1, le=256)]
    """CPU threads of each stage; never taken from the machine."""
    dtype: Literal["auto", "bfloat16", "float32"]
    """Number format of the base weights; `auto` takes bfloat16 where the hardware multiplies it, else float32."""
    engine: Literal["local", "ray"] = "local"
    """Where flows compute stages: on this machine, or on the Ray cluster that RAY_ADDRESS names.

    It changes no byte, and is no part of the fingerprint.
    """


class Model(Section):
    """The base model, pinned."""

    source: Literal["package", "folder", "hub"] = "package"
    """Where it comes from: a GGUF file in an installed package, a local folder in hub layout, or a hub."""
    name: str = Field(min_length=1)
    """The package's import name, the folder's path, or the hub id (`owner/model`)."""
    file: str | None = None
    """The GGUF file inside the package; only for `package`."""
    revision: str = Field(min_length=1)
    """What pins it: the package's version, the folder's digest (fetch tells it), or the hub's commit hash."""
    system_message: str | None = None
    """The system message of training, evaluation and serving; null keeps what the chat template says by itself."""

    @model_validator(mode="after")
    def _file_goes_with_package(self) -> "Model":
        if (self.source == "package") != (self.file is not None):
            raise ValueError("`file` is required for source `package`, and for no other")
        return self


class Source(Section):
    """Where raw rows come from."""

    path: str = Field(min_length=1)
    """A file or a folder, relative to the repository's root or absolute; NAME.hub.yaml names a hub's data set."""
    files: str = Field(default="**/*", min_length=1)
    """Which files of a folder are read, as a glob relative to it."""
    format: Name = "auto"
    """The format's name: a file of tasks/ingest/formats; `auto` looks at the rows and says what it took."""
    tools: Literal["text", "refuse"] = "text"
    """Conversations with tool calls: kept as plain text, or rejected."""
    task: Name | None = None
    """The task of its rows where the rows name none; the source's name when null."""
    person: str | None = None
    """The field of its rows that says whose they are, for `python -m tasks.ingest forget --person`."""
    cluster: Name | None = None
    """The cluster of its rows where the rows name none; the source's name when null."""
    licence: str = Field(default="unknown", min_length=1)
    """The licence of its rows where the rows name none, as an SPDX id."""
    train: bool = True
    """Whether its rows may be trained on; false keeps a source for the benchmarks of its held-out clusters alone."""


class Licences(Section):
    """Which licences may be trained on."""

    allow: list[str] = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT"]
    """SPDX ids; a row to train on under another licence, or under `unknown`, stops the run unless listed here."""


class Clean(Section):
    """Which rows are left out of the records, or changed; each is counted, and its reject kept.

    Exact duplicates, empty outputs and rows that are no text are always rejected.
    """

    near_duplicates: float | None = Field(default=None, ge=0.5, le=1)
    """Jaccard similarity of word 5-grams from which each text of a row repeats an earlier row's, by MinHash."""
    languages: list[str] | None = Field(default=None, min_length=1)
    """ISO 639-1 codes of the languages to keep, for instance `en`, with texts too short to tell; null keeps all."""
    shortest: int = Field(default=1, ge=1)
    """Characters of a free answer at least; one of a row's options may be shorter."""
    longest: int | None = Field(default=None, ge=1)
    """Characters of a whole record at most; null sets no bound."""
    truncated: Literal["keep", "drop"] = "keep"
    """Answers of 100 characters and more that break off in a sentence, a code fence or at a bracket."""
    refusals: Literal["keep", "drop"] = "keep"
    """Answers that begin by refusing in an assistant's stock phrases, in English."""
    personal_data: Literal["keep", "mask", "drop"] = "keep"
    """E-mail addresses, phone numbers, keys and tokens of services."""


class Ingest(Section):
    """The sources and how they become records."""

    seed: int = Field(ge=0)
    """Seed of the composition of the starter mixture."""
    licences: Licences
    """The licence policy."""
    clean: Clean
    """The cleaning of all sources."""
    sources: dict[Name, Source] = Field(min_length=1)
    """The sources by name; each is a stage `ingest@NAME` of its own."""


class FewShot(Section):
    """Prompts that begin with solved exemplars of the same task, from the training side alone."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Share of the examples that get exemplars."""
    most: int = Field(default=3, ge=1, le=32)
    """Exemplars of a prompt at most: 1 to this many, by seed; pack leaves out the first ones until the rest fits."""


class Decontaminate(Section):
    """Training records that share text with a document of this run's benchmarks are dropped and listed."""

    words: int = Field(default=13, ge=3, le=100)
    """Words in a row that count as shared text, without case and punctuation (13 as for GPT-3 and FLAN).

    In scripts that are written without spaces, Chinese or Thai for instance, each character counts as a word.
    """
    shortest: int = Field(default=8, ge=1)
    """A document of fewer than `words` words is looked for whole, if it has at least this many."""


class Render(Section):
    """Records and templates to examples: the mixture and the hold-out."""

    seed: int = Field(default=17, ge=0)
    """Seed of the choice of records, templates and benchmark documents."""
    examples: int = Field(ge=1, le=100_000_000)
    """Training examples in all; fewer where the records do not suffice."""
    cap: int = Field(default=3_000, ge=1)
    """Most records that count towards a task's share: its weight is min(records, cap), FLAN's mixing."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Weights are raised to 1 / temperature: 1 is proportional, a high value mixes tasks evenly."""
    weights: dict[str, Annotated[float, Field(ge=0, le=1_000_000)]] = {}
    """Factors on the weight of a task or a cluster by its name; 0 leaves it out, 2 doubles its share."""
    inverted_share: float | None = Field(default=None, ge=0, le=1)
    """Share of examples in inverted templates, for tasks that have some; null draws every template alike."""
    options_share: float | None = Field(default=None, ge=0, le=1)
    """Share of direct examples whose prompt lists the options, for records with options; null as above."""
    few_shot: FewShot = FewShot()
    """Exemplars in prompts."""
    wording: Literal["templates", "name", "none"] = "templates"
    """How an example is worded: an instruction from the templates, or one of FLAN's two controls without one.

    `name` puts the names of cluster and task before the bare input; `none` is the bare input, without options and
    without the instruction that a record brings, unless it brings nothing else (arXiv 2109.01652, section 4.3).
    """
    templates: int | None = Field(default=None, ge=1)
    """Templates of each task at most, direct ones before inverted ones, else in an order by seed; null takes all."""
    clusters: int | None = Field(default=None, ge=1)
    """Clusters that are trained on at most, those of the most tasks first; null takes all. `examples` holds as ever."""
    decontaminate: Decontaminate = Decontaminate()
    """What counts as an overlap with a benchmark."""
    validation: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the records of each training task that is set aside by seed, for the validation loss.

    Of these as many are rendered as this share of `examples`, mixed as the training examples are.
    """
    held_out_tasks: str | None = None
    """A file of task names, one a line, that are never trained on, with their whole clusters: an official split.

    It lies in tasks/render, among what the stage depends on. Case, white space and punctuation do not count.
    """
    held_out: list[Name]
    """Clusters that are never trained on; each becomes a benchmark suite."""
    related: dict[Name, list[Name]] = {}
    """Clusters that are dropped from training with a held-out one, its key, because knowing them would help on it."""
    documents: int = Field(default=150, ge=1)
    """Documents of each benchmark at most, balanced over their answers."""
    forms: list[Literal["rank", "unlisted", "generate", "templates", "named"]] = Field(
        default=["rank", "unlisted", "generate", "templates"], min_length=1
    )
    """How each task of a held-out cluster is asked: by rank with the options listed in the prompt or `unlisted`, by
    generation, in all its `templates`, and by rank with the task's name alone, as `wording: name` trains it.
    """

    def excluded(self) -> dict[str, str]:
        """The clusters that must not be trained on, each with the held-out cluster that excludes it."""
        related = {name: held for held in self.held_out for name in self.related.get(held, [])}
        return related | {held: held for held in self.held_out}


class Pack(Section):
    """Examples to token shards."""

    row_tokens: int = Field(default=768, ge=16, le=1_048_576)
    """Tokens of a packed row at most; a longer example loses its first exemplars, else it is rejected and counted."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens in all at most: examples are taken in the order of a hash of their ids until then; null takes all."""


class Lora(Section):
    """The adapter."""

    r: int = Field(default=16, ge=1, le=1_024)
    """Rank of the update."""
    alpha: int = Field(default=32, ge=1)
    """Scale: the update is multiplied by alpha / r, or by alpha / sqrt(r) with `rslora`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs dropped in training."""
    target_modules: str | list[str] = "all-linear"
    """PEFT's selection of the layers to adapt: `all-linear`, a regular expression, or endings of names."""
    exclude_modules: str | list[str] | None = None
    """Layers left out of that selection: a regular expression, or endings of names."""
    layers: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    """Numbers of the model's blocks that are adapted, from 0, where `target_modules` is a list; null adapts all."""
    rslora: bool = False
    """Rank-stabilised LoRA, whose scale keeps the update's size at high ranks."""
    dora: bool = False
    """DoRA: direction and magnitude of the weights are learnt apart, in PEFT's own layers, which are slower."""
    base_bits: Literal[4] | None = None
    """QLoRA: the frozen base is held in so many bits while training (bitsandbytes, on a GPU); null keeps it whole."""

    @model_validator(mode="after")
    def _layers_go_with_a_list(self) -> "Lora":
        if self.layers is not None and isinstance(self.target_modules, str):
            raise ValueError("`layers` needs `target_modules` as a list of endings of names")
        return self


class Launch(Section):
    """The processes that train together on this machine."""

    processes: int = Field(default=1, ge=1, le=1_024)
    """How many; they share the rows of each step, and give what one process gives, within rounding.

    Each has a GPU of its own, or `compute.threads` threads of the CPU.
    """
    base: Literal["whole", "sharded"] = "whole"
    """What each process holds of the frozen base: all of it, or its share of each block, for a base that does not fit
    one GPU (FSDP2). The adapter is whole in each process either way.
    """
    restarts: int = Field(default=2, ge=0, le=100)
    """How often all begin again from the last checkpoint because one was lost, ended by a signal; no error is retried.

    It changes no byte of the adapter.
    """


class Train(Section):
    """The training run."""

    seed: int = Field(default=17, ge=0)
    """Seed of the adapter's start, the order of rows and dropout."""
    epochs: float = Field(default=1.0, gt=0, le=1_000)
    """Passes over the token shards."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps at most; null runs all epochs."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on at most, counted in mean rows; null runs all epochs."""
    rows_per_step: int = Field(default=1, ge=1, le=65_536)
    """Packed rows of one optimiser step."""
    learning_rate: float = Field(default=4e-4, gt=0, le=1)
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    validate_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps between validations, with one at the end; the result is the adapter of the lowest loss.

    It needs `render.validation`. Null validates never, and the result is the last step's adapter.
    """
    patience: int | None = Field(default=None, ge=1)
    """Validations without a new lowest loss that end the training; null never ends it early."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Minutes between checkpoints; 0 writes one after every step. It changes no byte of the adapter."""
    lora: Lora = Lora()
    """The adapter."""
    launch: Launch = Launch()
    """Several processes."""

    @model_validator(mode="after")
    def _processes_share_a_step_evenly(self) -> "Train":
        processes = self.launch.processes
        if self.rows_per_step % processes:
            above = self.rows_per_step + -self.rows_per_step % processes
            raise ValueError(
                f"`rows_per_step`: {self.rows_per_step} rows cannot be shared evenly by `launch.processes`,"
                f" which is {processes}: write {above}, or another number of processes"
            )
        return self

    @model_validator(mode="after")
    def _a_quantised_base_is_whole(self) -> "Train":
        if self.lora.base_bits and self.launch.base == "sharded":
            raise ValueError("`launch.base`: a base of 4 bits cannot be sharded: set it to whole, or base_bits to null")
        return self

    @model_validator(mode="after")
    def _patience_counts_validations(self) -> "Train":
        if self.patience is not None and self.validate_steps is None:
            raise ValueError("`patience` counts validations: set `validate_steps` too")
        return self


class Evaluate(Section):
    """Evaluation, zero-shot on the held-out clusters."""

    suites: list[Name] = Field(min_length=1)
    """The suites to run: held-out clusters, and names of `include`."""
    include: dict[Name, Annotated[str, Field(min_length=1)]]
    """Folders of lm-eval task YAMLs by the names of the suites that they become; each is a stage `include@NAME`."""
    batch_size: int = Field(ge=1)
    """Requests computed together; vLLM decides that itself."""
    backend: Literal["own", "vllm"]
    """What answers the benchmarks: this repository's own scorer, or vLLM, an extra that needs a GPU.

    Results of one are not compared with results of the other: a number format's rounding differs between them.
    """
    new_tokens: int = Field(ge=1, le=8_192)
    """Tokens generated at most for an answer of a held-out cluster; an included task sets its own `max_gen_toks`."""


class Register(Section):
    """The MLflow model registry."""

    name: str = Field(default="instructflow", pattern=r"^[A-Za-z0-9_-]+$")
    """The registered model's name; MLflow allows no `/`, `:` or `.`."""
    experiment: str = Field(default="instructflow", min_length=1)
    """The MLflow experiment of the training runs."""


class Gate(Section):
    """What a candidate must show to become the champion. It is judged outside the graph, so no stage depends on it.

    Every bound is met by an interval of 95 %, never by a score alone.
    """

    policy: Literal["non_inferior", "superior"] = "non_inferior"
    """Against the champion: no worse than `margin` on each of `measures`, or better on each of them."""
    measures: list[Annotated[str, Field(min_length=1)]] = Field(default=["exact_match", "valid_answer"], min_length=1)
    """The measures on which it must be better than its base, and that count against the champion.

    Better is a mean over all benchmarks that have the measure whose interval lies above zero, with at least one
    benchmark better and none worse after Holm's correction.
    """
    margin: float = Field(default=0.1, ge=0, le=1)
    """How far below the champion the interval of such a mean may reach under `non_inferior`, in score."""
    floor: float = Field(default=0.2, ge=0, le=1)
    """How far the interval of any measure of any benchmark may reach below the base's and the champion's score.

    Of measures beyond 1 it is a share of their score.
    """
    valid_answer: float | None = Field(default=0.3, ge=0, le=1)
    """Share of valid answers at least, as a mean over a suite's benchmarks; null asks for none."""
    stopped: float | None = Field(default=0.7, ge=0, le=1)
    """Share of answers that the model ends itself at least, the same way; null asks for none."""
    words: str | None = None
    """A file of words, one a line, of which no generated answer may hold one; null looks for none."""
    adapter_mib: float | None = Field(default=None, gt=0)
    """Size of the adapter's weights at most, in MiB; null sets no bound."""
    token_milliseconds: float | None = Field(default=None, gt=0)
    """Milliseconds a generated token may take, measured on the machine of the gate; null measures nothing."""


class Params(Section):
    """All of params.yaml."""

    compute: Compute
    model: Model
    ingest: Ingest
    render: Render
    pack: Pack
    train: Train
    evaluate: Evaluate
    register_: Register = Field(alias="register")
    gate: Gate = Gate()


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml. Raises UserError with every fault at its dotted path."""
    return check(read(path), path)


def read(path: Path) -> Any:
    """The file's content. Raises UserError where there is no such file, or it is no YAML."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the command in the repository's root")
    return sheets.read(path)


def check(values: object, path: Path) -> Params:
    """The typed params of a parsed file. Raises UserError with every fault at its dotted path."""
    wanted = typed(values, path)
    if found := list(disagreements(wanted)):
        raise faults.refusal(path, found)
    return wanted


def disagreements(wanted: Params) -> Iterator[str]:
    """The faults of names that one section has from another, each at its dotted path."""
    held, included = wanted.render.held_out, wanted.evaluate.include
    for name in (name for name in wanted.render.related if name not in held):
        yield (
            f"render.related: {name!r} is no held-out cluster of render.held_out, so that nothing related to it is"
            f" dropped: remove the entry, or write the same name in both; {errors.suggestion(name, held)}"
        )
    for name in sorted(set(held) & included.keys()):
        yield f"evaluate.include: {name!r} is a held-out cluster already; give the suite another name"
    for name in (name for name in wanted.evaluate.suites if name not in {*held, *included}):
        yield (
            f"evaluate.suites: {name!r} is no held-out cluster of render.held_out, nor a suite of evaluate.include:"
            f" write the same name in both; {errors.suggestion(name, {*held, *included})}"
        )


def typed(values: object, path: Path) -> Params:
    """The params of a parsed file, each section checked by itself. Raises UserError with every fault of one."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping with the sections {', '.join(faults.keys(Params))}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise faults.refusal(path, faults.told(error, Params)) from error


def merge(changes: dict[str, Any], path: Path = Path("params.yaml")) -> None:
    """Lay `changes` over the file's values, section by section, and write it back; a wrong result is not written.

    Raises UserError where the result is no valid params file.
    """
    values = overlay(sheets.read(path), changes)
    check(values, path)
    with outputs.whole(path) as scratch:
        scratch.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def overlay(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes` laid over them, section by section; neither is changed."""
    merged = dict(values)
    for key, change in changes.items():
        both = isinstance(change, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], change) if both else change
    return merged


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one mapping from dotted path to value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def main(arguments: list[str]) -> None:
    """`merge FILE` lays the values of a YAML file over params.yaml; `check` reads it and tells every fault."""
    match arguments:
        case ["check"]:
            load()
        case ["merge", file]:
            merge(sheets.read_as(dict[str, Any], Path(file)))
        case _:
            raise UserError("usage: python -m tasks.params check | merge FILE")


if __name__ == "__main__":
    errors.run(lambda: main(sys.argv[1:]))
