"""What the pipeline computes. Each stage of dvc.yaml is the package of the same name; nothing here imports Prefect."""

import os

# Stages show their own progress; the libraries' bars would fill a log with half lines.
for name in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
    os.environ.setdefault(name, "1")

# Threads that wait give up their core: stages that run side by side would else spin against each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
