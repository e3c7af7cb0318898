"""Training and evaluation put the same tokens around an instruction."""

import pytest
from tokenizers import processors

from tasks.chat import PLAIN_TEMPLATE, Chat
from tasks.evaluate.scorer import Scorer
from tasks.guards import GuardError
from tests import tiny


def test_lm_eval_reads_the_prompt_as_training_does(chat: Chat) -> None:
    scorer = Scorer(tiny.llama(chat.tokenizer), chat.tokenizer, batch_size=1)
    as_evaluated = scorer.apply_chat_template([{"role": "user", "content": "Say it."}])
    assert as_evaluated == chat.prompt("Say it.")
    assert scorer.tok_encode(as_evaluated) == chat.encode(chat.prompt("Say it."))


def test_lm_eval_s_batched_encoding_adds_no_second_bos(chat: Chat) -> None:
    scorer = Scorer(tiny.llama(chat.tokenizer), chat.tokenizer, batch_size=1)
    ids, _ = scorer.tok_batch_encode([chat.prompt("Say it.")])
    assert ids[0].tolist() == chat.encode(chat.prompt("Say it."))


def test_the_end_of_turn_is_what_the_template_puts_after_an_answer(chat: Chat) -> None:
    assert chat.end_of_turn == "</s>"
    assert chat.end_of_turn_id == chat.tokenizer.eos_token_id


def test_the_plain_template_ends_a_turn_with_the_end_of_sequence() -> None:
    assert Chat(tiny.byte_pairs(PLAIN_TEMPLATE)).end_of_turn == "</s>"


def test_the_system_message_stands_before_the_instruction(chat: Chat) -> None:
    prompt = Chat(chat.tokenizer, "Be brief.").prompt("Say it.")
    assert prompt.index("Be brief.") < prompt.index("Say it.")


def test_another_system_message_is_another_chat(chat: Chat) -> None:
    assert Chat(chat.tokenizer, "Be brief.").hash != chat.hash


def test_another_template_is_another_chat() -> None:
    assert Chat(tiny.byte_pairs(PLAIN_TEMPLATE)).hash != Chat(tiny.byte_pairs(tiny.CHAT)).hash


def test_a_template_that_puts_words_before_the_answer_is_refused() -> None:
    thinking = tiny.CHAT.replace("<|{{ message.role }}|>\n", "<|{{ message.role }}|>\nthinking ")
    with pytest.raises(GuardError, match="between its generation prompt and the answer"):
        _ = Chat(tiny.byte_pairs(thinking)).end_of_turn


def test_evaluation_leaves_bos_to_the_chat_template() -> None:
    tokenizer = tiny.byte_pairs(tiny.CHAT.replace("{{ bos_token }}", ""))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    scorer = Scorer(tiny.llama(tokenizer), tokenizer, batch_size=1)
    prompt = Chat(tokenizer).prompt("Say it.")
    assert tokenizer(prompt)["input_ids"][0] == tokenizer.bos_token_id
    assert scorer.tok_encode(prompt) == Chat(tokenizer).encode(prompt)
