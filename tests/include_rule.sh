#!/usr/bin/env bash
# Fails when an include breaks the folder rule: launch -> runtime -> { sharding, offload, models } -> base.
# usage: include_rule.sh SOURCE_DIR
set -u
cd "${1:?source folder}" || exit 2

declare -A allowed=(
  [base]="base"
  [sharding]="base sharding"
  [offload]="base offload"
  [models]="base models"
  [runtime]="base sharding offload models runtime"
  [launch]="base sharding offload models runtime launch"
)

# violations FOLDER: every project include in FOLDER that FOLDER may not have.
violations() {
  local folder=$1 pattern
  pattern=$(tr ' ' '|' <<<"${allowed[$folder]}")
  grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$2" 2>/dev/null |
    grep -vE "\"($pattern)/"
}

failed=0
for folder in base sharding offload models runtime launch; do
  found=$(violations "$folder" "$folder")
  if [ -n "$found" ]; then
    printf '%s may include only { %s }:\n%s\n' "$folder" "${allowed[$folder]}" "$found"
    failed=1
  fi
done
heavy=$(grep -rlE '#include <torch/(torch|all|extension)\.h>' --include='*.h' base sharding offload models runtime launch 2>/dev/null)
if [ -n "$heavy" ]; then
  printf 'public headers include ATen/core/Tensor.h at most, not torch/torch.h:\n%s\n' "$heavy"
  failed=1
fi

# The rule must be able to fail: a file that breaks it is found.
sample=$(mktemp -d)
mkdir "$sample/sharding"
printf '#include "models/gpt2.h"\n' >"$sample/sharding/bad.h"
[ -n "$(violations sharding "$sample/sharding")" ] || { echo "the check finds no violation in a file that has one"; failed=1; }
rm -rf "$sample"
exit $failed
