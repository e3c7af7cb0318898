"""The answer as tables: of the scores, and of what each variant was trained on."""

from tasks.report import page as markdown
from tasks.variants import conclusions, published
from tasks.variants.grid import BASE
from tasks.variants.story import TESTED, Story, Trained

Table = list[list[str]]
"""Rows of cells; the first one is the head."""


def text(story: Story) -> str:
    """The answer in Markdown."""
    return "\n".join(
        [
            "# What instruction tuning is for",
            "",
            *(f"- {sentence}" for sentence in conclusions.sentences(story)),
            "",
            "## Held-out means",
            "",
            markdown.aligned(scores(story)),
            "",
            "![Held-out means by variant, beside FLAN's](wordings.png)",
            "",
            *(["![Held-out mean by number of clusters, beside FLAN's](curves.png)", ""] if curves(story) else []),
            "## Tested together",
            "",
            markdown.aligned(tests(story)),
            "",
            "## What each variant was trained on",
            "",
            markdown.aligned(mixtures(story)),
            "",
            f"{published.CAVEAT} ({published.CITATION})",
            "",
        ]
    )


def scores(story: Story) -> Table:
    """A row for each variant and suite: the mean with its interval, by measure; and what has no interval."""
    measured = list(dict.fromkeys(name for name, _ in story.means))
    losses = {one.name: one.validation_loss for one in story.trained}
    rows = [["variant", "held out", *measured, "spread over wordings", "in-distribution loss"]]
    for variant in story.variants:
        for suite in ["", *(story.suites if len(story.suites) > 1 else [])]:
            cells = [_score(story, name, suite, variant) for name in measured]
            told = [_spread(story, variant), _number(losses.get(variant))] if not suite else ["", ""]
            rows.append([variant if not suite else "", suite or "all", *cells, *told])
    return rows


def tests(story: Story) -> Table:
    """A row for each comparison that was tested."""
    rows = [["variant", "against", "measure", "difference (95 % interval)", "p", "verdict"]]
    for one in story.differences:
        told = f"{one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
        rows.append([one.variant, one.against, one.measured, told, markdown.short(one.p), str(one.verdict)])
    return rows


def mixtures(story: Story) -> Table:
    """A row for each variant: what came of its mixture."""
    rows = [["variant", "changes", "runs", "examples", "tokens", "clusters", "list options", "few-shot"]]
    for one in story.trained:
        changes = ", ".join(f"{key} {value}" for key, value in one.changes.items()) or "–"
        clusters = ", ".join(f"{name} {number:g}" for name, number in one.clusters.items())
        numbers = [f"{one.runs}", f"{one.examples:,.0f}", f"{one.tokens:,.0f}"]
        rows.append([one.name, changes, *numbers, clusters, f"{one.options:g}", f"{one.few_shot:g}"])
    return rows


def curves(story: Story) -> dict[str, list[tuple[float, str]]]:
    """What a curve is drawn over, `clusters` or `templates` -> its points: the number, and the variant.

    They are of the variants that change nothing else, and the reference, which has the most.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for name in ("clusters", "templates"):
        points = [(_place(one, name), one.name) for one in story.trained if _only(one.changes, name)]
        if points:
            found[name] = [*sorted(points), (_most(story, name, points), story.reference)]
    return found


def _only(changes: dict[str, object], name: str) -> bool:
    return list(changes) == [f"render.{name}"] and changes[f"render.{name}"] is not None


def _most(story: Story, name: str, points: list[tuple[float, str]]) -> float:
    """Where the reference stands: at its clusters; of templates it has all, which is drawn behind the last number."""
    [reference] = [one for one in story.trained if one.name == story.reference]
    return reference.breadth if name == "clusters" else 1.5 * max(points)[0]


def _place(trained: Trained, name: str) -> float:
    return trained.breadth if name == "clusters" else float(trained.changes[f"render.{name}"])


def _score(story: Story, measured: str, suite: str, variant: str) -> str:
    one = story.means.get((measured, suite), {}).get(variant)
    if one is None:
        return "–"
    low, high = one.bounds
    return f"{one.mean:.3f} ({low:.3f} to {high:.3f})"


def _spread(story: Story, variant: str) -> str:
    told = story.spreads.get(variant)
    return f"{told['spread']:.3f}, {told['consistency']:.0%} agree" if told else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def headline(story: Story) -> dict[str, dict[str, float]]:
    """variant -> measure -> held-out mean, of what is tested."""
    return {
        variant: {
            name.replace(" ", "_"): round(models[variant].mean, 6)
            for name in TESTED
            if variant in (models := story.means.get((name, ""), {}))
        }
        for variant in story.variants
        if variant != BASE
    }
