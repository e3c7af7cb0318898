"""Licences as data sets spell them, as SPDX identifiers, https://spdx.org/licenses."""

import re

UNKNOWN = "unknown"

_UNKNOWN = {"", "unknown", "none", "n/a", "na", "other", "unspecified"}
_CREATIVE_COMMONS = re.compile(
    r"cc[ -]by((?:[ -](?:nc|nd|sa))*)[ -]v?([1-4]\.\d)(?:[ -](?:deed|international|unported))?"
)
_NAMES = (
    (re.compile(r"apache[ -](?:software[ -])?(?:licen[cs]e[ -])?,?(?:v(?:ersion[ -])?)?2(?:\.0)?"), "Apache-2.0"),
    (re.compile(r"(?:the )?mit(?:[ -]licen[cs]e)?"), "MIT"),
    (re.compile(r"bsd[ -]2[ -]clause(?: licen[cs]e)?"), "BSD-2-Clause"),
    (re.compile(r"bsd[ -]3[ -]clause(?: licen[cs]e)?"), "BSD-3-Clause"),
    (re.compile(r"cc0(?:[ -]1\.0)?"), "CC0-1.0"),
)
_IDENTIFIER = re.compile(r"[A-Za-z0-9.+-]+")


def spdx(name: str) -> str:
    """The SPDX identifier of a licence, `unknown`, or a `LicenseRef-` for one that SPDX does not list.

    What stands in brackets, such as an address, is no part of the name.
    """
    name = " ".join(re.sub(r"\([^)]*\)|,", " ", name).split())
    folded = name.lower()
    if folded in _UNKNOWN:
        return UNKNOWN
    if parts := _CREATIVE_COMMONS.fullmatch(folded):
        kinds = "".join(f"-{kind}" for kind in re.findall("nc|nd|sa", parts[1]))
        return f"CC-BY{kinds.upper()}-{parts[2]}"
    known = next((identifier for pattern, identifier in _NAMES if pattern.fullmatch(folded)), None)
    if known or _IDENTIFIER.fullmatch(name):
        return known or name
    return "LicenseRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
