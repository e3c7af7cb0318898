"""Whether the extra is here that `evaluate.backend` asks for. What a plan looks at, too, so it loads nothing else."""

from importlib.util import find_spec


def missing(backend: str) -> str | None:
    """Why this backend cannot be had here, as a fault of params.yaml; None where it can."""
    if backend == "vllm" and find_spec("vllm") is None:
        return "evaluate.backend: vllm: vLLM is not installed here (README tells how), or write own"
    return None
