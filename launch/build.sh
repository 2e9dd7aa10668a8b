#!/usr/bin/env bash
# Configures and builds everything into build/: about 11 minutes from nothing on 2 cores. Arguments are handed to CMake.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "[build] building into build/ (minutes the first time)"
cmake -S . -B build -G Ninja "$@" >build.log 2>&1 || { cat build.log; exit 1; }
rm -f build.log
# TARGETS=zerostep builds the program alone, without tests and benchmarks.
cmake --build build -j "${JOBS:-$(nproc)}" ${TARGETS:+--target $TARGETS}
