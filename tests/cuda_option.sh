#!/usr/bin/env bash
# Fails when CMake does not say what lacks where CUDA is asked for and cannot be had, or when it then builds for no CPU where CUDA is left open.
# usage: cuda_option.sh SOURCE_DIR LIBTORCH_DIR
set -u
source=${1:?source folder} libtorch=${2:?folder of LibTorch}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#!/bin/sh\necho "Cuda compilation tools, release 12.4, V12.4.131"\n' >"$work/nvcc"  # of another CUDA than LibTorch's
chmod +x "$work/nvcc"
failed=0

# configure ON|AUTO: sets status and, on one line, text.
configure() {
  text=$(cmake -S "$source" -B "$work/$1" -G Ninja -DLIBTORCH="$libtorch" -DZEROSTEP_NVCC="$work/nvcc" -DZEROSTEP_CUDA="$1" -DZEROSTEP_TESTS=OFF \
    -DZEROSTEP_BENCHMARKS=OFF 2>&1)
  status=$?
  text=$(tr -s ' \n' ' ' <<<"$text")
}
expect() { [[ $text == *"$1"* ]] || { printf "expected '%s' in: %s\n" "$1" "$text"; failed=1; }; }

configure ON
[ $status -ne 0 ] || { echo "-DZEROSTEP_CUDA=ON goes on without CUDA 13"; failed=1; }
expect "nvcc of CUDA 13 ($work/nvcc is release 12.4)"
expect "launch/setup.sh --cuda"
expect "ZEROSTEP_CUDA=OFF"
configure AUTO
[ $status -eq 0 ] || { echo "-DZEROSTEP_CUDA=AUTO ends where CUDA 13 is not there: $text"; failed=1; }
expect "CUDA: off; not found: the compiler nvcc of CUDA 13"
exit $failed
