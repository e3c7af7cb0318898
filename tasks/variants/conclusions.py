"""What a comparison shows, in plain words: every sentence follows from the verdicts, none is written beforehand."""

from collections.abc import Iterable, Sequence

from tasks.report.conclusions import count
from tasks.statistics import LEVEL, Verdict
from tasks.variants.grid import BASE
from tasks.variants.story import Difference, Story, Trained

FORM = "valid answer"
"""The measure that tells of an answer's form and not whether it is right."""


def sentences(story: Story) -> list[str]:
    """The answer first, then what it rests on."""
    controls = [one for one in story.trained if one.wording != "templates" and one.name != story.reference]
    return [overall(story), *(control(story, one) for one in controls), *_losses(story), *_caveats(story)]


def overall(story: Story) -> str:
    """Whether instruction tuning helped on clusters that were not trained on."""
    found = _against(story, story.reference, BASE)
    better, worse, none = (_measures(found, verdict) for verdict in Verdict)
    if worse and not better:
        return f"Instruction tuning made the model worse here: {worse}{_and_none(none)}."
    if worse:
        return (
            f"Instruction tuning changed the model for better and for worse here: better in {better}, worse in {worse}."
        )
    if not better:
        return f"Instruction tuning did not help here, as far as this shows: no difference from the base in {none}."
    helped = (
        f"Instruction tuning helped on tasks that no model had been trained on: better in {better}{_and_none(none)}."
    )
    if all(one.measured == FORM for one in found if one.verdict is Verdict.BETTER):
        return f"{helped} It taught the form of an answer; that more answers are right is not shown."
    return helped


def control(story: Story, trained: Trained) -> str:
    """Whether it was the instructions that helped: the reference against tuning without them."""
    found = _against(story, story.reference, trained.name)
    better, worse, none = (_measures(found, verdict) for verdict in Verdict)
    told = {"none": "the same tuning without instructions", "name": "tuning with the task's name alone"}[
        trained.wording
    ]
    beginning = f"Against {told} ({trained.name}), instructions are"
    if not better and not worse:
        return f"{beginning} not shown to make a difference, in {none}."
    parts = [f"better in {better}"] * bool(better) + [f"worse in {worse}"] * bool(worse)
    return f"{beginning} {' and '.join(parts)}{_and_none(none)}."


def _against(story: Story, variant: str, against: str) -> list[Difference]:
    return [one for one in story.differences if (one.variant, one.against) == (variant, against)]


def _measures(found: Sequence[Difference], verdict: Verdict) -> str:
    told = [f"{one.measured} ({one.mean:+.3f})" for one in found if one.verdict is verdict]
    return " and ".join(filter(None, (", ".join(told[:-1]), *told[-1:])))


def _and_none(none: str) -> str:
    return f"; no difference shown in {none}" if none else ""


def _losses(story: Story) -> Iterable[str]:
    """Other variants than the controls that differ from the reference."""
    others = [one.name for one in story.trained if one.wording == "templates" and one.name != story.reference]
    for name in others:
        found = [one for one in _against(story, story.reference, name) if one.verdict is not Verdict.NONE]
        if found:
            told = ", ".join(f"{one.measured} {one.verdict} ({one.mean:+.3f})" for one in found)
            yield f"{story.reference.capitalize()} against {name}: {told}."
    if others and not any(
        one.verdict is not Verdict.NONE for name in others for one in _against(story, story.reference, name)
    ):
        yield f"From none of {', '.join(others)} is {story.reference} shown to differ."


def _caveats(story: Story) -> Iterable[str]:
    yield (
        f"{count(len(story.differences), 'comparison')} of means over {count(len(story.suites), 'held-out suite')},"
        f" corrected together for a chance of error of {LEVEL:.0%}; resampled over seeds and groups of documents."
    )
    if any(one.runs == 1 for one in story.trained):
        yield "A variant was trained once only, so that what its seed does to it is in no interval."
    if story.lacking:
        yield f"{count(story.lacking, 'run')} of this grid failed or did not end and is not counted."
