#!/bin/bash
# Trains under Slurm, and goes on where it was when it is submitted again. Of the repository's folder:
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=12 launch/slurm.sh run.json NAME [--set KEY=VALUE...]
# NAME is the run's (run.name), whose folder is runs/NAME. ZEROSTEP=/path/of/zerostep names another program.
# A rank takes the GPU with its number on its host: all GPUs of a node must be seen by its tasks (--gpus-per-node, not --gpus-per-task), since NCCL moves
# values between GPUs that both ranks see fastest. Variables of NCCL (NCCL_SOCKET_IFNAME, NCCL_IB_HCA, NCCL_DEBUG) reach the ranks as they are set here.
# Slurm's SIGUSR1 two to three minutes before the time is up makes the job finish its step, write a checkpoint and end in order; a rank that dies ends it.
#SBATCH --time=04:00:00 --signal=USR1@120
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: sbatch [OPTIONS] launch/slurm.sh run.json NAME [ARGUMENTS OF train...]" >&2; exit 2; }
config=$1 name=$2
shift 2
program=${ZEROSTEP:-build/zerostep}
interval=$("$program" config "$config" --world "${SLURM_NTASKS:-1}" "$@" 2>/dev/null | sed -n 's/^run.checkpoint_interval = \([0-9]*\).*/\1/p') || true
[ "$interval" != 0 ] || echo "launch/slurm.sh: run.checkpoint_interval is 0: a run whose time is up begins anew" >&2
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
again=--overwrite  # of what a run without a checkpoint has left
[ ! -e "runs/$name/checkpoints/latest" ] || again=--resume
exec srun --mpi=pmix --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  "$program" train "$config" --set run.name="$name" --set run.output_dir=runs "$@" $again
