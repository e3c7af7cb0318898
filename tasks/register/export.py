"""A version as one model in hub layout: the adapter merged into its base, as safetensors, with tokenizer and card."""

import shutil
from pathlib import Path

from tasks import model, outputs
from tasks.params import Compute
from tasks.register.stored import Stored

TOKENIZER = (
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)


def merged(version: Stored, out: Path, scratch: Path) -> None:
    """Write the model to `out`, in the number format that it was trained in."""
    base = version.base(scratch)
    compute = Compute.model_validate(version.told("inputs.json")["params"]["compute"])
    whole = model.apply_adapter(model.load_base(base, compute), version.adapter)
    with outputs.whole_folder(out) as folder:
        whole.save_pretrained(folder, safe_serialization=True)
        for name in TOKENIZER:
            if (base / name).is_file():
                shutil.copyfile(base / name, folder / name)
        if (card := version.model / "README.md").is_file():
            shutil.copyfile(card, folder / "README.md")
