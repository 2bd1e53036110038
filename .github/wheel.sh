#!/usr/bin/env bash
# Build the wheel, install it for public models, and run from it, in an empty folder, what a new user tries first; then
# the fast tests of all that needs no fairseq, which find the package in the wheel alone.
set -euo pipefail
cd "$(dirname "$0")/.."
home="$(mktemp -d)"
python -m pip wheel --quiet --no-deps --wheel-dir "$home" .
python -m venv "$home/venv"
export PATH="$home/venv/bin:$PATH"
wheel="$(echo "$home"/*.whl)"
pip install --quiet "${wheel}[transformers,flair]" "pytest>=9.0.3" hypothesis pyyaml packaging
cp -r tests pipelines pyproject.toml "$home"
mkdir "$home/empty"
cd "$home/empty"
backattn recipes
backattn sample
backattn corpus sample
backattn train sample --inputs words --seeds 1 --set tagger.epochs=2
backattn report sample
python -m backattn keys tagger
cd "$home"
python -m pytest -q -m "not slow" tests/cli tests/corpus tests/demo tests/recipe tests/report tests/store tests/tagger
