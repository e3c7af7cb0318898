from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from tasks import params
from tasks.records import Record
from tasks.render.draws import draw_exemplars, draw_form
from tasks.render.templates import Template
from tests.data_fixtures import record

LISTED = Template(id="listed", prompt="{{ premise }}\n{{ options_list }}")
PLAIN = Template(id="plain", prompt="Does {{ premise }} imply {{ hypothesis }}")
INVERTED = Template(id="inverted", kind="inverted", prompt="Ask for {{ output }}.", completion="{{ premise }}")
FORMS = [LISTED, PLAIN, INVERTED]


def drawn(records: Iterable[Record], seed: int = 17, **wanted: Any) -> list[Template]:
    render_params = params.Render(examples=1, held_out=[], **wanted)
    return [draw_form(seed, one, FORMS, render_params) for one in records]


def share(templates: list[Template], name: str) -> float:
    return sum(template.id == name for template in templates) / len(templates)


def test_the_template_is_drawn_by_seed_and_record_alone() -> None:
    records = [record(number) for number in range(50)]
    assert drawn(records) == drawn(reversed(records))[::-1]
    assert drawn(records)[25:] == drawn(records[25:])
    assert drawn(records) != drawn(records, seed=18)


def test_every_template_has_its_turn() -> None:
    templates = drawn(map(record, range(900)))
    assert all(0.28 < share(templates, name) < 0.39 for name in ("plain", "listed", "inverted"))


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_inverted_examples_is_the_one_asked_for(wanted: float) -> None:
    assert share(drawn(map(record, range(2000)), inverted_share=wanted), "inverted") == pytest.approx(wanted, abs=0.04)


@pytest.mark.parametrize("wanted", [0.0, 0.25, 1.0])
def test_the_share_of_direct_examples_that_list_options_is_the_one_asked_for(wanted: float) -> None:
    direct = [template for template in drawn(map(record, range(2000)), options_share=wanted) if template != INVERTED]
    assert 1200 < len(direct) < 1470
    assert share(direct, "listed") == pytest.approx(wanted, abs=0.04)


def test_a_share_that_no_template_can_give_takes_the_others() -> None:
    wanted = params.Render(examples=1, held_out=[], inverted_share=1.0, options_share=1.0)
    assert draw_form(17, record(1), [PLAIN], wanted) == PLAIN


def test_the_templates_of_a_share_are_drawn_alike() -> None:
    other = Template(id="other", prompt="{{ hypothesis }}\n{{ options_list }}")
    wanted = params.Render(examples=1, held_out=[], inverted_share=0.5, options_share=0.5)
    templates = [draw_form(17, record(n), [LISTED, other, INVERTED, PLAIN], wanted) for n in range(2000)]
    assert share(templates, "listed") == pytest.approx(0.125, abs=0.03)
    assert share(templates, "other") == pytest.approx(0.125, abs=0.03)


def exemplars_of(one: Record, pool: list[Record], seed: int = 17, share: float = 1.0, most: int = 3) -> list[Record]:
    return draw_exemplars(seed, one, pool, params.FewShot(share=share, most=most))


def test_exemplars_come_from_the_pool_and_never_are_the_record_or_one_with_its_input() -> None:
    pool = [record(number) for number in range(6)]
    twins = [
        one._replace(id=f"twin/{one.id}", fields={name: f" {text.upper()}" for name, text in one.fields.items()})
        for one in pool
    ]
    for one in pool:
        drawn_ids = {exemplar.id for exemplar in exemplars_of(one, pool + twins, most=32)}
        assert drawn_ids <= {exemplar.id for exemplar in pool + twins} - {one.id, f"twin/{one.id}"}


def test_no_exemplar_stands_twice() -> None:
    for number in range(100):
        ids = [one.id for one in exemplars_of(record(99), [record(n) for n in range(8)], seed=number, most=8)]
        assert len(set(ids)) == len(ids)


def test_few_shot_has_its_share_and_every_number_up_to_the_most() -> None:
    pool = [record(number, task="other") for number in range(3000, 3032)]
    counts = Counter(len(exemplars_of(record(number), pool, share=0.3)) for number in range(2000))
    assert counts.keys() == {0, 1, 2, 3}
    assert counts[0] / 2000 == pytest.approx(0.7, abs=0.04)
    assert min(counts[number] for number in (1, 2, 3)) > 150


def test_every_exemplar_of_a_pool_has_its_turn() -> None:
    pool = [record(number) for number in range(3000, 3010)]
    counts = Counter(exemplars_of(record(number), pool, most=1)[0].id for number in range(2000))
    assert all(130 < counts[one.id] < 280 for one in pool)


def test_exemplars_depend_on_the_seed_and_the_record() -> None:
    pool = [record(number) for number in range(100, 132)]
    first = [exemplars_of(record(number), pool) for number in range(20)]
    assert first == [exemplars_of(record(number), pool) for number in range(20)]
    assert first != [exemplars_of(record(number), pool, seed=18) for number in range(20)]
