#!/bin/bash
# Trains under Slurm, and goes on where it was when it is submitted again. Of the repository's folder:
# usage: sbatch [OPTIONS OF sbatch...] launch/slurm.sh run.json NAME [ARGUMENTS OF train...]
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=12 launch/slurm.sh run.json NAME [ARGUMENTS OF train...]
# NAME is the run's (run.name); its folder lies where run.output_dir says. A folder of that name without checkpoints is left alone. ZEROSTEP=/path/of/zerostep
# names another program.
# A rank takes the GPU with its number on its host: all GPUs of a node must be seen by its tasks (--gpus-per-node, not --gpus-per-task), since NCCL moves
# values between GPUs that both ranks see fastest. Variables of NCCL (NCCL_SOCKET_IFNAME, NCCL_IB_HCA, NCCL_DEBUG) reach the ranks as they are set here.
# Slurm's SIGUSR1 two to three minutes before the time is up makes the job finish its step, write a checkpoint and end in order; a rank that dies ends it.
#SBATCH --time=04:00:00 --signal=USR1@120
set -euo pipefail
fail() { echo "launch/slurm.sh: $*" >&2; exit 2; }
usage() { fail "$1; usage: sbatch [OPTIONS OF sbatch...] launch/slurm.sh run.json NAME [ARGUMENTS OF train...] (bash launch/slurm.sh --help tells more)"; }
case ${1-} in
  --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | grep -v '^SBATCH'; exit ;;
  -*) usage "'$1' is no option of this script: those of sbatch come before it, those of train behind NAME" ;;
esac
[ $# -ge 2 ] || usage "the configuration file and NAME of the run are needed"
case $2 in -*) usage "'$2' stands where NAME does: arguments of train come behind it" ;; esac
config=$1 name=$2
shift 2
program=${ZEROSTEP:-build/zerostep}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

# What decides where the run's folder is, and whether it can go on.
settings=(--set run.name="$name")
for ((i = 1; i <= $#; ++i)); do
  case ${!i} in
    --resume* | --overwrite*) fail "${!i}: whether the run goes on follows from its checkpoints" ;;
    --set) next=$((i + 1)); settings+=(--set "${!next-}") ;;
    --set=*) settings+=("${!i}") ;;
  esac
done
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
resolved=$("$program" config "$config" --world "${SLURM_NTASKS:-1}" "${settings[@]}" 2>"$errors") || { cat "$errors" >&2; exit 2; }
value() { sed -n "s/^$1 = \"\{0,1\}\([^\"]*[^\" ]\)\"\{0,1\} *(.*/\1/p" <<<"$resolved"; }
[ "$(value run.name)" = "$name" ] || fail "NAME is '$name', and an argument sets run.name to '$(value run.name)'"
folder=$(value run.output_dir)/$name
again=()
if [ -e "$folder/checkpoints/latest" ]; then
  again=(--resume)
elif [ -e "$folder" ]; then
  fail "$folder holds a run without checkpoints: take another NAME, or remove it"
elif [ "$(value run.checkpoint_interval)" = 0 ]; then
  echo "launch/slurm.sh: run.checkpoint_interval is 0: when the job's time is up, what it has computed is lost" >&2
fi
rm -f "$errors"
exec srun --mpi=pmix --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  "$program" train "$config" --set run.name="$name" "$@" ${again[@]+"${again[@]}"}
