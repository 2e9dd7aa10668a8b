#!/usr/bin/env bash
# Checks zerostep on a machine with a GPU: bits, losses, ranks, bandwidths, speed beside PyTorch's, predicted times. Needs a bundle
# (launch/gpu_bundle.sh), python3, and LibTorch 2.11 for CUDA 13: PyTorch where python3 finds it, or an unpacked one that LIBTORCH names (then
# there are no peers). About 7.5 minutes at most.
# usage: launch/gpu_check.sh [--bundle FOLDER] --out FOLDER [--fake] [--short]
#   bash launch/gpu_check.sh --bundle .gpu --out FOLDER
# STAGES="equality ranks" runs these alone and keeps what FOLDER holds of the others; LIMIT_FACTOR=2 gives each stage twice its seconds. Stages: probe
# kernels equality ranks bandwidth first_order zeroth_order streaming machine. FOLDER/gpu_check.json and .txt are written after each of them, and
# FOLDER/logs/ keeps what programs say, the metrics of runs, and machine.json for `zerostep plan --machine`. Exit status: 1 a stage failed, 2 an
# argument or a variable is wrong and nothing was made.
# --fake checks the bundle and this script on a machine without a GPU: the program runs on the GPU of the tests, whose speed means nothing; STAGES
# are then probe, kernels, equality, ranks, bandwidth, first_order, streaming and machine. --short has equality and ranks take fewer models.
# Written on machines without a GPU: bounds and limits have been tried on the GPU of the tests alone.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
fail() { echo "launch/gpu_check.sh: $1" >&2; exit 2; }
usage() { fail "$1; usage: launch/gpu_check.sh [--bundle FOLDER] --out FOLDER [--fake] [--short] (--help tells more)"; }
bundle="" out="" options=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit ;;
    --bundle | --out) [ -n "${2-}" ] || usage "$1 has no value" ;;&
    --bundle) bundle=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --fake | --short) options+=("$1"); shift ;;
    *) usage "'$1' is no option" ;;
  esac
done
[ -n "$out" ] || usage "--out FOLDER lacks"
if [ -z "$bundle" ] && [ -x "$here/bin/zerostep" ]; then bundle=$here; fi
[ -x "${bundle:-.gpu}/bin/zerostep" ] || fail "${bundle:-.gpu} is no bundle: launch/gpu_bundle.sh makes one"
bundle=$(cd "${bundle:-.gpu}" && pwd)
[ ! -e "$out" ] || [ -d "$out" ] || fail "--out $out is no folder"
out=$(realpath -m -- "$out")

torch=${LIBTORCH:-$(python3 -c 'import importlib.util, os; found = importlib.util.find_spec("torch"); print(os.path.dirname(found.origin) if found else "")')}
[ -e "$torch/lib/libtorch_cpu.so" ] || fail "python3 finds no torch with lib/libtorch_cpu.so: install PyTorch 2.11 for CUDA 13, or name an unpacked LibTorch by LIBTORCH"

# Where the dynamic linker looks: the bundle, LibTorch, CUDA's libraries beside it (PyPI's wheels), a toolkit.
path=$bundle/lib:$bundle/openmpi/lib:$torch/lib
for folder in "$torch"/../nvidia/cu13/lib "$torch"/../nvidia/*/lib /usr/local/cuda/lib64; do
  [ ! -d "$folder" ] || path+=:$(cd "$folder" && pwd)
done
export LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OPAL_PREFIX=$bundle/openmpi PRTE_PREFIX=$bundle/openmpi PMIX_PREFIX=$bundle/openmpi
export PATH=$bundle/openmpi/bin:$PATH
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/gpu_check/check.py" --bundle "$bundle" --out "$out" --torch "$torch" "${options[@]}"
