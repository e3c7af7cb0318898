"""The model card, as users of model hubs expect it: metadata in front, then base, data, training, results and limits.

The metadata's form is that of Hugging Face's model cards (https://huggingface.co/docs/hub/model-cards).
"""

from typing import Any

import yaml

from tasks.report import conclusions, page
from tasks.report.compare import Comparison
from tasks.report.story import Story

_HYPERPARAMETERS = ("epochs", "max_steps", "rows_per_step", "learning_rate", "schedule", "warmup_share", "seed")


def page_of(story: Story) -> str:
    """The card in Markdown."""
    return "\n".join(["---", yaml.safe_dump(metadata(story), sort_keys=False).rstrip(), "---", "", *_body(story), ""])


def metadata(story: Story) -> dict[str, Any]:
    """What hubs read. A base that lies on no hub is named in the text alone."""
    hub = {"base_model": story.source["name"]} if story.source["source"] == "hub" else {}
    results = [_result(item) for item in story.comparisons]
    return {
        **hub,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["instruction-tuning", "lora"],
        "model-index": [{"name": f"instructflow-{story.trained['fingerprint'][:8]}", "results": results}],
    }


def _result(item: Comparison) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": "zero-shot instruction following"},
        "dataset": {"type": "_".join(filter(None, (item.suite, item.task, item.form))), "name": item.name},
        "metrics": [{"type": item.measure, "name": item.measured, "value": item.tuned}],
    }


def _body(story: Story) -> list[str]:
    return [
        f"# {story.base}, instruction-tuned",
        "",
        conclusions.training(story),
        "",
        "## Use",
        "",
        "It answers one instruction in the chat template of its base (hash"
        f" `{story.trained['chat_hash']}`). It was not trained for anything else, and not made safe for the public.",
        "",
        "## Base and licence",
        "",
        f"- base: `{story.source['name']}`, revision `{story.source['revision']}`,"
        f" {story.source['parameters']:,} parameters, SHA-256 `{story.digests['base model']}`",
        "- The adapter is of use with its base alone, whose licence holds for both.",
        f"- licences of the training data: {licences(story)}",
        "",
        "## Data",
        "",
        f"{story.totals['examples']:,} examples of {conclusions.count(story.totals['records'], 'record')} from"
        f" {conclusions.count(story.totals['sources'], 'source')}; {story.totals['contaminated']:,} records were"
        " dropped for their overlap with benchmarks. `data_card.md` tells more.",
        "",
        "## Training",
        "",
        page.aligned([["value", "is"], *([name, str(value)] for name, value in values(story).items())]),
        "",
        "## Results",
        "",
        *(f"- {sentence}" for sentence in conclusions.results(story.comparisons)),
        "",
        page.table(story.comparisons),
        "",
        "## Limits",
        "",
        f"- {conclusions.losses(story.comparisons)}",
        "- The benchmarks are zero-shot, in the languages and domains of their documents, and say nothing beyond them.",
        "- What the base has learnt wrongly the adapter may repeat; nothing here measures bias or safety.",
        "",
        "## Lineage",
        "",
        f"Fingerprint `{story.trained['fingerprint']}`.",
        "",
        page.aligned([["what", "SHA-256"], *([name, f"`{value}`"] for name, value in story.digests.items())]),
    ]


def values(story: Story) -> dict[str, Any]:
    """The values that a reader looks for first, of those that were set."""
    train = story.inputs["params"]["train"]
    lora = {f"lora {name}": train["lora"][name] for name in ("r", "alpha", "dropout", "target_modules")}
    chosen = {name.replace("_", " "): train[name] for name in _HYPERPARAMETERS if train[name] is not None}
    return {
        **chosen,
        **lora,
        "steps": story.trained["steps"],
        "number format": story.inputs["params"]["compute"]["dtype"],
    }


def licences(story: Story) -> str:
    """The licences of the records, with how many there are of each."""
    found = sorted(story.totals["licences"].items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({conclusions.count(number, 'record')})" for name, number in found) or "none"
