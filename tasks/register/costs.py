"""What a run cost, for the report's copy in MLflow: the declared report is a function of files and knows no clock."""

import html
import json
from pathlib import Path

PLACE = "<!-- costs -->"
"""Where the report's page has room for it."""


def added(page: str, timings: Path) -> str:
    """The report's page with the section; the same page where nothing was timed here."""
    told = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(timings.glob("*.json"))]
    return page.replace(PLACE, section(told)) if told else page


def section(timings: list[tuple[str, dict[str, float]]]) -> str:
    """Time and memory of each stage, the longest first."""
    longest = max(timing["seconds"] for _, timing in timings) or 1
    ordered = sorted(timings, key=lambda item: -item[1]["seconds"])
    rows = "\n".join(_row(name, timing, 100 * timing["seconds"] / longest) for name, timing in ordered)
    total = duration(sum(timing["seconds"] for _, timing in timings))
    return f"""<section id="costs">
<h2>Cost</h2>
<p>{total} of work in all, one stage after another. Each stage's time and memory at its peak are those of its last run
on the machine that registered this model; a stage that had nothing to do keeps those of the run before.</p>
<ul class="bars costs">
{rows}
</ul>
</section>"""


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def _row(name: str, timing: dict[str, float], share: float) -> str:
    return (
        f'<li><span class="label">{html.escape(name)}</span><svg height="16" aria-hidden="true">'
        f'<rect width="{share:.2f}%" height="16" rx="3"/></svg>'
        f'<span class="n">{duration(timing["seconds"])}, {timing["peak_gib"]:.1f} GiB</span></li>'
    )
