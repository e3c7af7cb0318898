"""Stage register: adapter, results and lineage -> an MLflow model version, one for each fingerprint."""
