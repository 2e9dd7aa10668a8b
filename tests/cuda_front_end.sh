#!/usr/bin/env bash
# Reads every kernel's source as CUDA with a second front end, clang's: what nvcc lets pass and the language does not shows there. clang-tidy
# comes from launch/setup.sh (.deps/clang_tidy); where it has not brought one, this says so and nothing is read.
# usage: cuda_front_end.sh SOURCE_DIR TOOLKIT SYSTEM_HEADERS
set -u
cd "${1:?source folder}" || exit 2
toolkit=${2:?the CUDA toolkit} headers=${3:?folder with the headers of fmt}
tool=.deps/clang_tidy/clang_tidy/data/bin/clang-tidy
if [ ! -e "$tool" ]; then
  echo "there is no $tool: launch/setup.sh brings it where nvcc is found"
  exit 0
fi
mapfile -t sources < <(find base sharding offload models runtime -name '*.cu' 2>/dev/null | sort)
[ ${#sources[@]} -gt 0 ] || { echo "no sources of kernels found"; exit 1; }
options=(-x cuda --cuda-path="$toolkit" --cuda-gpu-arch=sm_90 -Wno-unknown-cuda-version -std=c++20 -I. -isystem "$headers" -Wall -Wextra)
checks='-*,clang-diagnostic-*,bugprone-use-after-move,performance-unnecessary-value-param'
read_all() { "$tool" --quiet --checks="$checks" --warnings-as-errors='*' "$@" -- "${options[@]}"; }
# It must be able to find what is wrong.
sample=$(mktemp -d --suffix=.cuda)
trap 'rm -rf "$sample"' EXIT
printf 'int on_host(int);\n__global__ void kernel(int* out) { *out = on_host(1); }\n' >"$sample/bad.cu"
if read_all "$sample/bad.cu" >/dev/null 2>&1; then echo "a call of the host from a kernel was not found"; exit 1; fi
read_all "${sources[@]}" && echo "${#sources[@]} sources read as CUDA by $("$tool" --version | grep -o 'version [0-9.]*')"
