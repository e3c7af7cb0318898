"""Stage fetch: the base model, from a package, a folder or a hub, as one folder of safetensors."""
