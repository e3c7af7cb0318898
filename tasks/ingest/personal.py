"""Personal data in text: e-mail addresses, phone numbers, and keys and tokens of services; found, counted and masked.

Patterns are narrow on purpose: a date, a price, an ISBN or a version number is none of them. A name or a postal address
is not looked for, since no pattern tells it from a text about people.
"""

import re
from collections import Counter

from tasks.records import Record

_EMAIL = r"[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"

_KEY = "|".join(
    (
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bgh[oprsu]_[A-Za-z0-9]{36,}",
        r"\bgithub_pat_[A-Za-z0-9_]{22,}",
        r"\bglpat-[\w-]{20,}",
        r"\bsk-(?=[\w-]*\d)(?:[a-z]{2,8}-)*[A-Za-z0-9_]{20,}[\w-]*",
        r"\b[rs]k_live_[A-Za-z0-9]{16,}",
        r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
        r"\bAIza[\w-]{35}",
        r"\bhf_[A-Za-z0-9]{30,}",
        r"\bnpm_[A-Za-z0-9]{36}",
        r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]*-----END [A-Z ]{0,30}PRIVATE KEY-----|[^-]*)",
    )
)
"""Keys that their issuers gave a form of their own: AWS, GitHub, GitLab, OpenAI and Anthropic, Stripe, Slack, Google,
Hugging Face, npm, JSON web tokens, PEM."""

_PHONE = "|".join(
    (
        r"(?<![\w+])\+[1-9](?:[ .()/-]{0,2}\d){7,14}(?!\d)",
        r"(?<![\w.,/-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[.-]\d{4}(?![\w-]|\.\d)",
        r"(?<![\w.,/-])(?<!\d )0[1-9](?:[ .]\d\d){4}(?![\w-]| ?\.?\d)",
        r"(?<![\w.,/-])(?<!\d )0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?![\w-]| ?\.?\d)",
    )
)
"""International with +; North American with both separators; ten digits in pairs; national with a leading zero."""

_KINDS = {"EMAIL": re.compile(_EMAIL), "KEY": re.compile(_KEY), "PHONE": re.compile(_PHONE)}


def mask(text: str, counts: Counter[str] | None = None) -> str:
    """The text with `[EMAIL]`, `[KEY]` and `[PHONE]` for what was there; `counts` is raised by kind."""
    for kind, pattern in _KINDS.items():
        text, found = pattern.subn(f"[{kind}]", text)
        if found and counts is not None:
            counts[kind] += found
    return text


def masked(record: Record, counts: Counter[str]) -> Record:
    """The record with every text masked. It keeps its id, so that what was forgotten by id stays forgotten."""

    def each(texts: list[str]) -> list[str]:
        return [mask(text, counts) for text in texts]

    return record._replace(
        fields={name: mask(text, counts) for name, text in record.fields.items()},
        outputs=each(record.outputs),
        options=each(record.options),
        turns=each(record.turns),
        system=mask(record.system, counts),
    )


def fault(record: Record) -> str | None:
    """Why a record with personal data is dropped; the reason tells the kinds, never the data."""
    counts: Counter[str] = Counter()
    masked(record, counts)
    return f"personal data: {', '.join(sorted(counts))}" if counts else None
