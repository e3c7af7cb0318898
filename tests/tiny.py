"""Tiny models in random weights: with BOS, without chat template, with SentencePiece, and one that is not Llama."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from tests.data_fixtures import STARTER

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def texts() -> list[str]:
    """Text to learn a vocabulary from."""
    return [path.read_text(encoding="utf-8") for path in sorted(STARTER.glob("in*/*.yaml"))]


def byte_pairs(chat_template: str | None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with BOS and EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")  # noqa: S106
    fast.chat_template = chat_template
    return fast


def sentence_pieces(folder: Path) -> Any:
    """A SentencePiece tokenizer, as Llama 2 has it."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(texts()).splitlines()),
        model_writer=content,
        vocab_size=600,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content.getvalue())
    return LlamaTokenizer.from_pretrained(folder)


SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(tokenizer: Any) -> LlamaForCausalLM:
    """A Llama of two layers with grouped keys."""
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **SIZES, **ends(tokenizer))  # type: ignore[arg-type]
    )


def attentive(model: Any) -> Any:
    """The model with stronger queries and keys: as drawn, it attends to everything about alike, wherever it stands."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "query_key_value.weight")):
                weight.mul_(8)
    return model


def ends(tokenizer: Any) -> dict[str, int]:
    """The config's ids of BOS and EOS."""
    return {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}


def with_bos(folder: Path) -> tuple[Any, Any]:
    """Llama; its chat template writes BOS."""
    tokenizer = byte_pairs(CHAT)
    return llama(tokenizer), tokenizer


def without_chat_template(folder: Path) -> tuple[Any, Any]:
    """GPT-NeoX; no chat template."""
    tokenizer = byte_pairs(None)
    config = GPTNeoXConfig(vocab_size=len(tokenizer), **SIZES, **ends(tokenizer))  # type: ignore[arg-type]
    return GPTNeoXForCausalLM(config), tokenizer


def with_sentence_pieces(folder: Path) -> tuple[Any, Any]:
    """Llama with a SentencePiece tokenizer and no chat template."""
    tokenizer = sentence_pieces(folder)
    return llama(tokenizer), tokenizer


def not_llama(folder: Path) -> tuple[Any, Any]:
    """GPT-2: learned positions, one matrix for query, key and value."""
    tokenizer = byte_pairs(CHAT)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=1024, **ends(tokenizer))
    return GPT2LMHeadModel(config), tokenizer


KINDS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "with_bos": with_bos,
    "without_chat_template": without_chat_template,
    "with_sentence_pieces": with_sentence_pieces,
    "not_llama": not_llama,
}


def write(folder: Path, kind: str = "with_bos") -> Path:
    """A model of this kind in hub layout."""
    torch.manual_seed(3)
    model, tokenizer = KINDS[kind](folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
