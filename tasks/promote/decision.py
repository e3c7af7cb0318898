"""A decision as people and programs read it."""

from dataclasses import asdict
from typing import Any

from tasks.promote.gate import Decision
from tasks.report import page


def content(decision: Decision) -> dict[str, Any]:
    """All of it, for a JSON file."""
    checks = [check._asdict() for check in decision.checks]
    return {**asdict(decision), "checks": checks, "promoted": decision.promoted, "why": decision.why}


def headline(decision: Decision) -> str:
    """One sentence."""
    rival = f"beside champion {decision.champion}" if decision.champion else "with no champion beside it"
    done = "becomes the champion" if decision.promoted else "does not become the champion"
    return f"Version {decision.candidate} {done} ({rival}, policy {decision.policy}): {decision.why}."


def markdown(decision: Decision) -> str:
    """The demands, and the comparisons that they rest on."""
    demands = [["demand", "met", "numbers"]]
    demands += [[check.name, "yes" if check.passed else "**no**", check.told] for check in decision.checks]
    parts = [f"# Version {decision.candidate} at the gate", "", headline(decision), "", page.aligned(demands), ""]
    for title, found, columns in (
        ("Beside its base", decision.against_base, ("base", "candidate")),
        ("Beside the champion", decision.against_champion, ("champion", "candidate")),
    ):
        if found:
            parts += [f"## {title}", "", page.table(found, columns), ""]
    return "\n".join(parts)
