#!/usr/bin/env bash
# Bring the cached features of one recipe (RECIPE, a name) up to date, on top of what is in cache/: all that
# .github/workflows/features.yml does between restoring the cache and saving it. Its outputs for the workflow:
# save (true where this cache is worth saving) and digest (of all stores).
set -euo pipefail
shopt -s nullglob
cd "${0%/*}/.."

backattn() { .venv/bin/backattn "$@"; }
step() { echo "== $1"; }
# To the log and, as a block of code, to the page of the run.
summary() { { echo "### $1"; echo '```'; cat; echo '```'; } | tee -a "$GITHUB_STEP_SUMMARY"; }

# Models that are there and were trained as the recipe says are left as they are, and so are yours.
step 'Train the models that the recipe describes'
if [ "$RECIPE" = sample ]; then backattn sample; fi
backattn models --replace --others -- "$RECIPE"

# 0: fresh; 1: something is stale or missing, computed below; 2: nothing may be built on this.
step 'Check every byte of what is there'
before=0
backattn check --deep -- "$RECIPE" || before=$?
if [ "$before" -gt 1 ]; then
  echo '::error::Stopped: the lines above say why. Only if a store is corrupt, delete this cache (Actions, Caches).'
  exit "$before"
fi

step 'Say what will be computed, and for how long'
backattn features --dry-run -- "$RECIPE" | summary 'To compute'
step 'Compute what is missing'
backattn features -- "$RECIPE"
step 'Drop what this recipe no longer needs'
backattn gc --others -- "$RECIPE"
step 'Check again, every byte'
backattn check --deep -- "$RECIPE"
step 'Say where the numbers come from'
for store in "cache/$RECIPE"/{translation,transfer,embeddings/*}/*.h5; do backattn show "$store"; done | summary 'Stores'

# A pull request reads the cache of the main branch and never writes it; nor does a run that computed
# nothing, which would fill the quota with copies.
save=false
if [ "$before" = 1 ] && [ "$GITHUB_REF" = refs/heads/main ]; then
  case "$GITHUB_EVENT_NAME" in push | workflow_dispatch) save=true ;; esac
fi
echo "save=$save" >> "$GITHUB_OUTPUT"
# The stores bind data, recipe and models: their digest names the cache.
stores=(cache/*/{translation,transfer,embeddings/*}/*.h5)
sha256sum -- "${stores[@]}" | sha256sum | sed 's/^\([0-9a-f]*\).*/digest=\1/' >> "$GITHUB_OUTPUT"
