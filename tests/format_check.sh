#!/usr/bin/env bash
# Fails where a file is not formatted as .clang-format says. usage: format_check.sh SOURCE_DIR
set -u
cd "${1:?source folder}" || exit 2
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing: run launch/setup.sh"; exit 1; }
find base sharding offload models runtime experiments launch tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 | xargs -0 clang-format-14 --dry-run -Werror
