"""What the pipeline computes. Each stage of dvc.yaml is the package of the same name; nothing here imports Prefect."""
