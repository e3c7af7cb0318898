"""The gate: a candidate against its base and against the champion, and the alias. No stage: it runs every time."""
