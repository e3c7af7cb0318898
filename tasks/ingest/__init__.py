"""Stage ingest: one source -> records."""
