#!/usr/bin/env bash
# Fails when an include breaks the folder rule: launch -> experiments -> runtime -> { sharding, offload, models } -> base, and within runtime a folder
# includes itself and folders below it alone; pictures know nothing of the reports that they stand in.
# usage: include_rule.sh SOURCE_DIR
set -u
cd "${1:?source folder}" || exit 2

declare -A allowed=(
  [base]="base"
  [sharding]="base sharding"
  [offload]="base offload"
  [models]="base models"
  [runtime]="base sharding offload models runtime"
  [experiments]="base sharding offload models runtime experiments"
  [experiments/plot]="base sharding offload models runtime experiments/records experiments/plot"
  [launch]="base sharding offload models runtime experiments launch"
)

# Folders of runtime from the lowest up: each line's include themselves and those of the lines before.
layers=(
  "config data memory"
  "plan"
  "timing"
  "state"
  "optim strategy"
  "engine"
  "checkpoint generate"
  "report"
)
below=""
for layer in "${layers[@]}"; do
  for folder in $layer; do allowed[runtime/$folder]="base sharding offload models $below runtime/$folder"; done
  for folder in $layer; do below+=" runtime/$folder"; done
done

# violations RULE FOLDER: every project include in FOLDER that RULE's folder may not have.
violations() {
  local pattern
  pattern=$(tr -s ' ' '|' <<<"${allowed[$1]}")
  grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$2" 2>/dev/null |
    grep -vE "\"($pattern)/"
}

failed=0
for folder in base sharding offload models runtime experiments experiments/plot launch runtime/*/; do
  folder=${folder%/}
  if [ -z "${allowed[$folder]:-}" ]; then
    printf '%s has no place in the order of folders\n' "$folder"
    failed=1
    continue
  fi
  found=$(violations "$folder" "$folder")
  if [ -n "$found" ]; then
    printf '%s may include only { %s }:\n%s\n' "$folder" "${allowed[$folder]}" "$found"
    failed=1
  fi
done
heavy=$(grep -rlE '#include <torch/(torch|all|extension)\.h>' --include='*.h' base sharding offload models runtime experiments launch 2>/dev/null)
if [ -n "$heavy" ]; then
  printf 'public headers include ATen/core/Tensor.h at most, not torch/torch.h:\n%s\n' "$heavy"
  failed=1
fi

# The rule must be able to fail: a file that breaks it is found.
sample=$(mktemp -d)
for broken in 'sharding models/gpt2.h' 'runtime/plan runtime/engine/engine.h' 'runtime/optim runtime/strategy/estimate.h'; do
  read -r folder header <<<"$broken"
  mkdir -p "$sample/$folder"
  printf '#include "%s"\n' "$header" >"$sample/$folder/bad.h"
  [ -n "$(violations "$folder" "$sample/$folder")" ] || { echo "the check finds no violation in $folder where one is"; failed=1; }
done
rm -rf "$sample"
exit $failed
