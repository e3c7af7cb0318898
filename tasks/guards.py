"""Guards: what must hold in every run, whatever the model and the data. A guard that fires stops the run."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from tasks import errors
from tasks.errors import UserError


class GuardError(UserError):
    """A condition without which a model would be trained or measured wrongly in silence."""


def supervised_somewhere(where: str, supervised: Sequence[bool]) -> None:
    """An example or a batch trains on at least one token; with none, the loss is logged as 0 and nothing is learnt."""
    if not any(supervised):
        raise GuardError(f"{where}: no token is supervised, so nothing would be learnt from it; is its output empty?")


def end_of_turn_supervised(where: str, ids: Sequence[int], supervised: Sequence[bool], end_of_turn: int) -> None:
    """The last token ends the turn and is trained on; else the model never learns to stop."""
    if ids[-1] != end_of_turn or not supervised[-1]:
        raise GuardError(f"{where}: the end of turn (token {end_of_turn}) is not the last token that is trained on")


def only_one_bos(where: str, ids: Sequence[int], bos: int | None) -> None:
    """The sequence begins with one BOS at most: chat template and tokenizer must not both add it."""
    if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        raise GuardError(f"{where}: begins with BOS (token {bos}) twice: chat template and tokenizer both add it")


def prompt_is_prefix(where: str, prompt: Sequence[int], ids: Sequence[int]) -> None:
    """The prompt's tokens begin the example's; else what is masked is not what the model will be prompted with."""
    if list(ids[: len(prompt)]) != list(prompt):
        raise GuardError(
            f"{where}: the prompt's tokens are no prefix of the example's: the tokenizer joins the prompt's end"
            " and the answer's beginning; end the chat template's generation prompt with a line break"
        )


def same_tokens(where: str, assembled: Sequence[int], whole: Sequence[int]) -> None:
    """An example's tokens, put together piece by piece, are those of its text as a whole, which a server will send."""
    if list(assembled) != list(whole):
        place = next(
            (place for place, pair in enumerate(zip(assembled, whole, strict=False)) if pair[0] != pair[1]), -1
        )
        raise GuardError(
            f"{where}: its {len(assembled)} tokens are not the {len(whole)} that the tokenizer gives for the whole text"
            f" (they part at token {place}): this chat template cannot be tokenised message by message"
        )


def not_trained_on(clusters: Mapping[str, str], excluded: Mapping[str, str]) -> None:
    """No cluster of the training side (cluster -> one of its examples) is held out or related to a held-out one."""
    faults = [
        f"cluster {cluster!r} (example {example}) is excluded by the held-out cluster {excluded[cluster]!r}"
        for cluster, example in sorted(clusters.items())
        if cluster in excluded
    ]
    if faults:
        raise GuardError("the training side holds what the evaluation must not have seen: " + "; ".join(faults))


def adapter_changes_logits(difference: float) -> None:
    """With the adapter on, the logits differ from those with it off; `difference` is their largest distance."""
    if not difference > 0:
        raise GuardError("the logits with the adapter on and off are equal: the adapter is not applied")


def sequences_are_apart(difference: float) -> None:
    """Changing one packed sequence leaves its neighbour's logits as they were; `difference` is their distance."""
    if difference != 0:
        raise GuardError(
            f"packed sequences see each other: changing one moved its neighbour's logits by {difference:.3g};"
            " this model's attention does not take part in packing"
        )


def weights_are_finite(where: str, names: Collection[str]) -> None:
    """The base model holds numbers alone; `names` are its weights that do not."""
    if names:
        shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise GuardError(
            f"{where}: the base model's weights hold values that are no finite numbers: {shown};"
            " its file is damaged, or its numbers do not fit compute.dtype; run: dvc repro -f fetch"
        )


def loss_is_sound(where: str, loss: float, guessing: float) -> None:
    """A loss is a number, and below twice that of `guessing`, which finds all tokens of the vocabulary alike."""
    if not loss < 2 * guessing:
        raise GuardError(f"{where}: the loss is {loss:.4g}, and guessing has {guessing:.4g}: training has come apart")


def gradient_is_sound(where: str, gradient: float, usual: float) -> None:
    """A gradient's norm is a finite number, and below a thousand times the `usual` one."""
    if not gradient < min(1_000 * usual, math.inf):
        compared = f", and {usual:.4g} is usual" if math.isfinite(usual) else ""
        raise GuardError(f"{where}: the gradient's norm is {gradient:.4g}{compared}: training has come apart")


def same_chat(trained: str, evaluated: str) -> None:
    """Training and evaluation put the same markup around an instruction."""
    if trained != evaluated:
        raise GuardError(f"trained with chat template {trained} and evaluated with {evaluated}: they must be the same")


def says_something(where: str, answers: Collection[str]) -> None:
    """Of all generated answers one holds text at least; else the scores are those of a model that says nothing."""
    if answers and not any(answer.strip() for answer in answers):
        raise GuardError(
            f"{where}: all {len(answers)} generated answers are empty: the model ends its turn at once. Look at what it"
            " learnt (python -m tasks.pack show); a lower train.learning_rate, or a base model for chat, may help"
        )


def same_documents(where: str, included: Mapping[str, str], loaded: Mapping[str, str]) -> None:
    """The documents of an included benchmark (its name -> their digest) are those that training was kept apart from."""
    changed = sorted(name for name in included.keys() | loaded.keys() if included.get(name) != loaded.get(name))
    if changed:
        raise GuardError(
            f"{where}: other documents than when they were included: {', '.join(changed)};"
            f" run: dvc repro -f include@{where}"
        )


def known(what: str, names: Collection[str], choices: Collection[str]) -> None:
    """Every name is one of the choices."""
    all_known([(what, names, choices)])


def all_known(asked: Iterable[tuple[str, Collection[str], Collection[str]]]) -> None:
    """Every name is one of the choices of its place; else all that are not are told at once."""
    faults = [
        f"{what}: {name}: unknown; {errors.suggestion(name, choices)}"
        for what, names, choices in asked
        for name in sorted(set(names) - set(choices))
    ]
    if faults:
        raise UserError("\n  ".join(faults))
