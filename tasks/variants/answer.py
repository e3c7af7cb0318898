"""The answer as files: an HTML page that needs nothing beside it, the same in Markdown, pictures and numbers."""

import base64
from pathlib import Path

from tasks import outputs
from tasks.report import web
from tasks.variants import conclusions, draw, page, published
from tasks.variants.story import Story


def write(folder: Path, story: Story) -> None:
    """Write the answer into `folder`, all of it or nothing; the same story gives the same bytes."""
    with outputs.whole_folder(folder) as scratch:
        draw.wordings(story, scratch / "wordings.png")
        if page.curves(story):
            draw.curves(story, scratch / "curves.png")
        (scratch / "answer.md").write_text(page.text(story), encoding="utf-8", newline="\n")
        pictures = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in sorted(scratch.glob("*.png"))}
        (scratch / "answer.html").write_text(_html(story, pictures), encoding="utf-8", newline="\n")
        outputs.write_json(scratch / "answer.json", page.headline(story))


def _html(story: Story, pictures: dict[str, str]) -> str:
    return (
        web.environment(Path(__file__).parent)
        .get_template("answer.html.jinja")
        .render(
            story=story,
            sentences=conclusions.sentences(story),
            pictures=pictures,
            tables={
                "Held-out means": page.scores(story),
                "Tested together": page.tests(story),
                "What each variant was trained on": page.mixtures(story),
            },
            published=published,
        )
    )
