#!/usr/bin/env bash
# From nothing to a trained model: sets up, builds, trains a small byte-level GPT-2 on C++ source code (LibTorch's own headers) on two ranks at
# ZeRO stage 3, evaluates it, and prints what it writes. About 6 minutes to build the first time and 4 to train on 2 cores; no GPU, 3 GB of disk.
# usage: launch/quickstart.sh
# STEPS=N trains for another number of steps (default 300); RANKS=N on another number of ranks (default 2).
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1-} in
  "") ;;
  --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' launch/quickstart.sh; exit ;;
  *) echo "launch/quickstart.sh: '$1' is no option: it takes none (--help tells of STEPS and RANKS)" >&2; exit 2 ;;
esac
bash launch/setup.sh
TARGETS=zerostep bash launch/build.sh

headers=${LIBTORCH:-.deps/site/torch}/include
run=runs/quickstart
mkdir -p runs/data
echo "[quickstart] gathering C++ headers into runs/data/"
find "$headers/c10" "$headers/torch" -name '*.h' | LC_ALL=C sort | awk 'NR % 20 != 0' | xargs cat >runs/data/headers-train.txt
find "$headers/c10" "$headers/torch" -name '*.h' | LC_ALL=C sort | awk 'NR % 20 == 0' | xargs cat >runs/data/headers-eval.txt

root=()
[ "$(id -u)" != 0 ] || root=(--allow-run-as-root)
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} mpirun "${root[@]}" --oversubscribe --bind-to none -np "${RANKS:-2}" build/zerostep train configs/quickstart.json \
  --overwrite --set run.steps="${STEPS:-300}" --save-model "$run/model"

echo "[quickstart] what it writes after '#include <':"
build/zerostep generate --model "$run/model" --prompt '#include <' --tokens 300 --temperature 0.7 --seed 1
echo
echo "[quickstart] done: metrics in $run/metrics.csv, the model as a Hugging Face directory in $run/model"
