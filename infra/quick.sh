#!/usr/bin/env bash
# The whole pipeline on the real model at a small size, in a checkout of its own, so that the tree is left alone.
set -euo pipefail
rm -rf build/quick
mkdir -p build/quick
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents --target-directory build/quick
cd build/quick
git init --quiet
python -m tasks.params merge infra/quick.yaml
python -m flows.pipeline "$@"
