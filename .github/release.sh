#!/usr/bin/env bash
# Build dist/*.tar.gz and, from it, dist/*.whl; refuse a tag (GITHUB_REF_NAME) of another version than the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)"
if [ "${GITHUB_REF_NAME:-v$version}" != "v$version" ]; then
  echo "the tag is $GITHUB_REF_NAME, pyproject.toml has version $version: expected v$version" >&2
  exit 1
fi
grep -q "^## \[$version\] - [0-9]" CHANGELOG.md || { echo "CHANGELOG.md: expected a date beside [$version]" >&2; exit 1; }
grep -qx "version: $version" CITATION.cff || { echo "CITATION.cff: expected version: $version" >&2; exit 1; }
rm -rf dist
python -m pip install --quiet "build>=1.2"
python -m build --outdir dist .
