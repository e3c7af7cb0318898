"""The results in plain words, computed from the numbers: what may be said follows from the verdicts alone."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tasks.report.compare import Comparison, by_measure
from tasks.report.story import Story
from tasks.statistics import LEVEL, Verdict


def training(story: Story) -> str:
    """What was trained on what, in one sentence."""
    trained, clusters = story.trained, len(story.mixture["clusters"])
    return (
        f"{story.base} with a LoRA adapter, trained on {story.mixture['got']:,} examples ({trained['tokens']:,} tokens,"
        f" of which {trained['supervised_tokens']:,} are learnt) of {count(clusters, 'cluster')}. No task of a"
        " held-out cluster was trained on."
    )


def results(comparisons: Sequence[Comparison]) -> list[str]:
    """What the comparisons show, in sentences."""
    return [_overall(comparisons), *_by_measure(comparisons), *_chance(comparisons)]


def worse(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons in which the tuned model was shown to be worse, the largest loss first."""
    return _losses(item for item in comparisons if item.verdict is Verdict.WORSE)


def lower(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Those in which it scored less well without being shown to be worse, the largest loss first."""
    return _losses(item for item in comparisons if item.verdict is not Verdict.WORSE and item.gain < 0)


def losses(comparisons: Sequence[Comparison]) -> str:
    """Where it got worse, in a sentence."""
    shown, doubtful = worse(comparisons), lower(comparisons)
    first = f"Shown to be worse: {_listed(shown)}." if shown else "Nowhere was it shown to be worse."
    return f"{first} Lower scores, without a difference shown: {_listed(doubtful)}." if doubtful else first


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _overall(comparisons: Sequence[Comparison]) -> str:
    told = Counter(item.verdict for item in comparisons)
    return (
        f"Of {count(len(comparisons), 'comparison')}, {told[Verdict.BETTER]} show the tuned model better,"
        f" {told[Verdict.WORSE] or 'none'} worse, and {told[Verdict.NONE]} no difference"
        f" (paired tests, corrected together for a chance of error of {LEVEL:.0%})."
    )


def _by_measure(comparisons: Sequence[Comparison]) -> Iterable[str]:
    for measure, items in by_measure(comparisons).items():
        told = Counter(item.verdict for item in items)
        parts = [f"{verdict} on {told[verdict]}" for verdict in Verdict if told[verdict]]
        yield f"{measure.capitalize()}: {', '.join(parts)} of {count(len(items), 'benchmark')}."


def _chance(comparisons: Sequence[Comparison]) -> Iterable[str]:
    for measure, items in by_measure(item for item in comparisons if item.majority_class is not None).items():
        above = sum(item.tuned > (item.majority_class or 0) for item in items)
        yield (
            f"The tuned model's {measure} scores above the most frequent answer alone on {above} of"
            f" {count(len(items), 'benchmark')}."
        )


def _losses(items: Iterable[Comparison]) -> list[Comparison]:
    return sorted(items, key=lambda item: item.gain)


def _listed(items: Iterable[Comparison]) -> str:
    return ", ".join(f"{item.name} ({item.measured}, {item.difference:+.3f})" for item in items)
