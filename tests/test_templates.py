import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.records import Record
from tasks.render.templates import OWN_INSTRUCTION, Bank, Template, load_bank, render
from tasks.sandbox import names_in
from tests.data_fixtures import record, starter_records

LISTED = Template(id="listed", prompt="{{ premise }}\n{{ options_list }}")
PLAIN = Template(id="plain", prompt="Does {{ premise }} imply {{ hypothesis }}")
INVERTED = Template(id="inverted", kind="inverted", prompt="Ask for {{ output }}.", completion="{{ premise }}")


def own_instruction(instruction: str, given: str = "") -> Record:
    return Record(
        "toy/toy/1", "toy", "toy", "toy", "CC0-1.0", {"instruction": instruction, "input": given}, ["Answer."]
    )


def write_bank(folder: Path, text: str, name: str = "follows.yaml") -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def starter_templates() -> Iterator[tuple[str, Template]]:
    bank = load_bank()
    return ((task, template) for task in starter_records() for template in bank.templates[task])


def test_a_template_fills_its_prompt_with_the_record_s_fields() -> None:
    example = render(record(1), PLAIN)
    assert (example.prompt, example.completion) == ("Does Premise 1. imply Hypothesis 1.", "yes")


def test_options_are_listed_in_the_record_s_order() -> None:
    assert render(record(1, options=("no", "yes")), LISTED).prompt == "Premise 1.\nOPTIONS:\n- no\n- yes"


def test_an_inverted_template_asks_for_a_field_from_the_answer() -> None:
    example = render(record(1), INVERTED)
    assert (example.prompt, example.completion, example.kind) == ("Ask for yes.", "Premise 1.", "inverted")


def test_an_example_remembers_its_record_and_template() -> None:
    example = render(record(1), PLAIN)
    assert (example.record, example.template, example.template_hash) == ("toy/follows/1", "plain", PLAIN.hash)
    assert example.id == "toy/follows/1/plain"


def test_braces_in_a_record_s_text_are_text() -> None:
    assert render(
        own_instruction("Write {{ output }} {% if x %}"), load_bank().templates[OWN_INSTRUCTION][0]
    ).prompt == ("Write {{ output }} {% if x %}")


def test_a_record_s_own_instruction_comes_with_its_input_where_it_has_one() -> None:
    for template in load_bank().for_record(own_instruction("Add.", "1 and 2")):
        assert {"Add.", "1", "2"} <= set(render(own_instruction("Add.", "1 and 2"), template).prompt.split())
    assert render(own_instruction("Add."), load_bank().templates[OWN_INSTRUCTION][0]).prompt == "Add."


def test_worked_examples_are_shown_for_records_that_bring_them() -> None:
    plain = own_instruction("Add.", "1 and 2")
    rich = plain._replace(fields=plain.fields | {"positive_examples": "Input: 2 and 2\nOutput: 4"})
    bank = load_bank()
    more = [item for item in bank.for_record(rich) if item not in bank.for_record(plain)]
    assert len(more) == 2
    assert all("Input: 2 and 2\nOutput: 4" in render(rich, template).prompt for template in more)


def test_a_field_that_is_not_there_is_told_with_those_that_are() -> None:
    wrong = Template(id="wrong", prompt="{{ premisse }}")
    with pytest.raises(UserError, match="template follows/wrong: 'premisse' is undefined; a record has hypothesis, "):
        render(record(1), wrong)


def test_a_template_cannot_reach_into_python() -> None:
    with pytest.raises(UserError, match="follows/escape"):
        render(record(1), Template(id="escape", prompt="{{ options.__class__.__mro__[1].__subclasses__() }}"))


def test_a_record_without_options_gets_no_template_that_lists_them() -> None:
    bank = Bank(Path("bank"), {"follows": [LISTED, PLAIN]})
    assert bank.for_record(record(1)) == [LISTED, PLAIN]
    assert bank.for_record(record(1, options=())) == [PLAIN]


def test_a_record_that_no_template_fits_is_told_what_it_lacks() -> None:
    bank = Bank(Path("bank"), {"follows": [LISTED]})
    with pytest.raises(UserError, match=r"record toy/follows/1: 'listed' .* needs options_list; .* and no options"):
        bank.for_record(record(1, options=()))


def test_templates_whose_fields_the_record_has_not_are_not_taken() -> None:
    examples = Template(id="examples", prompt="{{ positive_examples }} {{ instruction }} {{ input }}")
    plain = Template(id="plain", prompt="{{ instruction }} {{ input }}")
    bank = Bank(Path("bank"), {OWN_INSTRUCTION: [examples, plain]})
    one = own_instruction("Add.")
    assert bank.for_record(one) == [plain]
    assert bank.for_record(one._replace(fields=one.fields | {"positive_examples": "1"})) == [examples, plain]


def test_a_task_without_templates_is_told_where_to_write_them() -> None:
    with pytest.raises(UserError, match=r"task 'follows' has no templates: write bank/inference/follows\.yaml"):
        Bank(Path("bank"), {}).for_record(record(1))


def test_a_task_s_templates_go_before_the_one_for_own_instructions() -> None:
    own = Template(id="own", prompt="{{ instruction }}")
    assert Bank(Path("bank"), {"toy": [own], OWN_INSTRUCTION: [LISTED]}).for_record(own_instruction("Add.")) == [own]


def test_a_conversation_is_taken_as_it_is() -> None:
    one = own_instruction("Add.")._replace(turns=["Add.", "What?", "1 and 2."], system="Be kind.")
    [template] = load_bank().for_record(one)
    example = render(one, template, [own_instruction("Other.")])
    assert (example.template, example.kind) == ("conversation", "direct")
    assert (example.turns, example.shots, example.system) == (["Add.", "What?", "1 and 2.", "Answer."], [], "Be kind.")


def test_exemplars_stand_before_the_prompt_in_the_same_template() -> None:
    example = render(record(1), LISTED, [record(2, "no"), record(3)])
    assert example.shots == [
        "Premise 2.\nOPTIONS:\n- yes\n- no\nno",
        "Premise 3.\nOPTIONS:\n- yes\n- no\nyes",
    ]
    assert example.exemplars == ["toy/follows/2", "toy/follows/3"]
    assert example.turns == render(record(1), LISTED).turns


def test_an_exemplar_that_the_template_does_not_fit_is_left_out() -> None:
    conversation = record(3)._replace(turns=["Hello."])
    example = render(record(1), LISTED, [record(2, options=()), conversation, record(4)])
    assert (len(example.shots), example.exemplars) == (1, ["toy/follows/4"])


def test_an_exemplar_that_holds_a_long_answer_is_left_out() -> None:
    asked = record(1, output="The cat sat on the mat.", options=())
    telling = record(2, options=())._replace(fields={"premise": f"{asked.output} So?", "hypothesis": "None."})
    example = render(asked, PLAIN, [telling])
    assert (example.shots, example.exemplars) == ([], [])


def test_a_prompt_without_text_is_refused_with_its_record() -> None:
    blank = Template(id="blank", prompt="{% if not premise %}x{% endif %}")
    with pytest.raises(UserError, match="template follows/blank: record toy/follows/1 gives an empty prompt"):
        render(record(1), blank)


@pytest.mark.parametrize("prompt", ["{{ 1 / 0 }}", "{{ premise + 1 }}", "{{ premise.title }}", "{{ options }}"])
def test_an_expression_that_fails_is_told_with_its_template(prompt: str) -> None:
    with pytest.raises(UserError, match="template follows/wrong: "):
        render(record(1), Template(id="wrong", prompt=f"{{{{ premise }}}} {prompt}"))


def test_another_wording_has_another_hash_and_another_name_has_not() -> None:
    assert Template(id="other", prompt=PLAIN.prompt).hash == PLAIN.hash
    assert Template(id="plain", prompt=PLAIN.prompt + "!").hash != PLAIN.hash


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("templates: [{id: a, promt: x}]", r"templates\.0\.prompt: Field required; templates\.0\.promt: "),
        ("templates: [{id: A b, prompt: x}]", r"templates\.0\.id: "),
        ("templates: [{id: a, kind: upside-down, prompt: x}]", r"templates\.0\.kind: "),
        ("templates: []", "templates: "),
        ("templates: [{id: a, prompt: '{{ x'}]", "a: unexpected end of template"),
        ("templates: [", "no valid YAML"),
        ("templates: [{id: a, prompt: x}, {id: a, prompt: y}]", "a template id stands twice"),
    ],
)
def test_a_faulty_template_file_is_refused_with_its_name_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)follows\.yaml: {told}"):
        load_bank(write_bank(tmp_path, text))


def test_two_template_files_of_one_task_are_refused(tmp_path: Path) -> None:
    for name in ("one/follows.yaml", "two/follows.yaml"):
        write_bank(tmp_path, "templates: [{id: a, prompt: x}]", name)
    with pytest.raises(UserError, match="another template file is named follows too"):
        load_bank(tmp_path)


def test_every_task_of_the_starter_has_ten_templates_two_or_three_of_them_inverted() -> None:
    bank = load_bank()
    for task in starter_records():
        assert 10 <= len(bank.templates[task]) <= 12, task
        assert 2 <= sum(template.kind == "inverted" for template in bank.templates[task]) <= 3, task


def test_every_template_has_a_task_of_the_starter() -> None:
    assert set(load_bank().templates) - set(starter_records()) == {OWN_INSTRUCTION}


def test_every_template_renders_with_every_record_of_its_task() -> None:
    bank = load_bank()
    for one in (one for rows in starter_records().values() for one in rows):
        for template in bank.for_record(one):
            example = render(one, template)
            assert example.prompt, example.id
            assert example.completion, example.id


def test_a_direct_template_answers_and_never_shows_the_answer() -> None:
    for task, template in starter_templates():
        if template.kind == "direct":
            assert template.completion == "{{ output }}", (task, template.id)
            assert "output" not in names_in(template.prompt), (task, template.id)


def test_an_inverted_template_does_not_show_what_it_asks_for() -> None:
    for task, template in starter_templates():
        for one in starter_records()[task] if template.kind == "inverted" else ():
            example = render(one, template)
            assert not re.search(rf"(?<!\w){re.escape(example.completion)}(?!\w)", example.prompt), example.id


def test_templates_use_only_what_their_records_have() -> None:
    known = {"output", "options", "options_list"}
    for task, template in starter_templates():
        used = names_in(template.prompt) | names_in(template.completion)
        assert used <= known | set(starter_records()[task][0].fields), (task, template.id)


def test_direct_templates_show_every_field() -> None:
    for task, template in starter_templates():
        if template.kind == "direct":
            assert names_in(template.prompt) >= set(starter_records()[task][0].fields), (task, template.id)


def test_templates_have_no_literal_line_break_mark_and_no_stray_brace() -> None:
    for task, template in starter_templates():
        text = re.sub(r"{{[^{}]+}}|{%[^{}]+%}", "", template.prompt + template.completion)
        assert not {"{", "}", "\\"} & set(text), (task, template.id)


def test_tasks_with_options_have_direct_templates_with_and_without_the_list() -> None:
    bank = load_bank()
    for task in (task for task, rows in starter_records().items() if rows[0].options):
        direct = [template for template in bank.templates[task] if template.kind == "direct"]
        assert sum(template.lists_options for template in direct) >= 3, task
        # Many a question of this one points at its options: "Which of these ...?"
        assert task == "science_fact" or sum(not template.lists_options for template in direct) >= 2, task


def test_a_question_that_is_asked_without_its_options_does_not_point_at_them() -> None:
    for task in ("passage_choice", "who_did_it"):
        questions = [one.fields["question"] for one in starter_records()[task]]
        assert not [question for question in questions if "of these" in question or "following" in question]


def test_no_wording_stands_twice_in_a_task() -> None:
    bank = load_bank()
    for task in starter_records():
        prompts = [" ".join(template.prompt.split()) for template in bank.templates[task]]
        assert len(set(prompts)) == len(prompts), task
