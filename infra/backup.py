"""A team's data bases and artifacts in a folder of their own, and back."""

import json
import shutil
from pathlib import Path

from infra.team import DATABASES, Team
from tasks import outputs
from tasks.errors import UserError

DIGESTS = "digests.json"


def backup(team: Team, out: Path) -> None:
    """Write both data bases and the artifacts to OUT, whole or not at all.

    The data bases come first: a file that they name is there already, and one that comes later is only one too many.
    """
    if out.exists():
        raise UserError(f"{out} is there already; name a folder that is not")
    if not team.postgres.runs():
        raise UserError(f"{team.folder}: PostgreSQL does not run; python -m infra.local up {team.folder}")
    with outputs.whole_folder(out) as folder:
        folder.chmod(0o700)
        for name in DATABASES:
            team.postgres.dump(name, folder / f"{name}.dump")
        shutil.copytree(team.artifacts, folder / "artifacts")
        outputs.write_json(folder / DIGESTS, digests(folder))


def restore(team: Team, out: Path) -> None:
    """Put a backup in the place of what is there, all of it or nothing; PostgreSQL alone runs meanwhile.

    Both data bases change their names in one transaction, after all has been read. Where the machine is switched off
    between that and the artifacts' change of place, a second restore ends the first.
    """
    check(out)
    if running := team.running():
        raise UserError(f"{team.folder}: {', '.join(running)} running; python -m infra.local down {team.folder}")
    team.postgres.start()
    try:
        for name in DATABASES:
            team.postgres.run(f"DROP DATABASE IF EXISTS {name}_restored")
            team.postgres.create_database(f"{name}_restored", name)
            team.postgres.load(out / f"{name}.dump", f"{name}_restored", name)
        with outputs.whole(team.artifacts) as scratch:
            shutil.copytree(out / "artifacts", scratch)
            _swap(team)
    finally:
        team.postgres.stop()


def _swap(team: Team) -> None:
    for name in DATABASES:
        team.postgres.run(f"DROP DATABASE IF EXISTS {name}_replaced")
    away = [f"ALTER DATABASE {name} RENAME TO {name}_replaced" for name in DATABASES]
    back = [f"ALTER DATABASE {name}_restored RENAME TO {name}" for name in DATABASES]
    team.postgres.run(*away, *back)
    for name in DATABASES:
        team.postgres.run(f"DROP DATABASE {name}_replaced")


def check(out: Path) -> None:
    """Raise UserError where a backup is not what was written."""
    path = out / DIGESTS
    if not path.is_file():
        raise UserError(f"{out}: no backup, {DIGESTS} is missing")
    if digests(out) != json.loads(path.read_text(encoding="utf-8")):
        raise UserError(f"{out}: its files are not those of {DIGESTS}; take another backup")


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a backup."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / DIGESTS)
    return {path.relative_to(folder).as_posix(): outputs.digest_path(path) for path in files}
