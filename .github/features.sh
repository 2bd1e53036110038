#!/usr/bin/env bash
# Bring the cached features of one recipe (RECIPE, a name) in cache/ up to date: all steps of
# .github/workflows/features.yml between restoring and saving the cache. Outputs for the workflow: save (true if this
# cache should be saved) and digest (of all stores).
set -euo pipefail
shopt -s nullglob
cd "${0%/*}/.."

backattn() { .venv/bin/backattn "$@"; }
step() { echo "== $1"; }
# Print to the log and, as a code block, to the summary page of the run.
summary() { { echo "### $1"; echo '```'; cat; echo '```'; } | tee -a "$GITHUB_STEP_SUMMARY"; }

# Existing models that match the recipe are kept, and so are models of your own.
step 'Train the models that the recipe describes'
if [ "$RECIPE" = sample ]; then backattn sample; fi
backattn models --replace --others -- "$RECIPE"

# 0: fresh; 1: stale or missing, computed below; 2: corrupt, stop.
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

# Pull requests read the cache of the main branch and never write it; runs that computed nothing would only fill
# the quota with copies.
save=false
if [ "$before" = 1 ] && [ "$GITHUB_REF" = refs/heads/main ]; then
  case "$GITHUB_EVENT_NAME" in push | workflow_dispatch) save=true ;; esac
fi
echo "save=$save" >> "$GITHUB_OUTPUT"
# The stores depend on data, recipe and models: their digest names the cache.
stores=(cache/*/{translation,transfer,embeddings/*}/*.h5)
sha256sum -- "${stores[@]}" | sha256sum | sed 's/^\([0-9a-f]*\).*/digest=\1/' >> "$GITHUB_OUTPUT"
