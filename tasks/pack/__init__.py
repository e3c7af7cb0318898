"""Stage pack: examples to token shards (ids, supervised spans, sequence boundaries)."""
