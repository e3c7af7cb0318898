"""Stage train: token shards and base model to a LoRA adapter."""
