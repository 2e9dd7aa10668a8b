#!/usr/bin/env bash
# Runs launch/slurm.sh under Slurm: two nodes on this machine (tests/launch/support/two_hosts.sh), each with slurmd and munged of its own,
# slurmctld on the first. Checks that Slurm's SIGUSR1 before the time is up ends the job in order, that the job submitted again goes on without a gap,
# that a killed rank ends it, and that the runs of a sweep are tasks of an array. Debian's packages are installed where they are missing; Slurm ends with the script. Root; build/zerostep; 2 minutes.
# usage: launch/slurm_check.sh [COMMAND...]     COMMAND: runs that instead, where srun and sbatch reach this Slurm
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
say() { printf '[slurm] %s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }

case ${1-} in
  --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit ;;
  -*) echo "launch/slurm_check.sh: '$1' is no option; usage: launch/slurm_check.sh [COMMAND...] (--help tells more)" >&2; exit 2 ;;
esac
if [ "${1-}" != inside ]; then
  [ "$(id -u)" = 0 ] || fail "slurmd and the installation of packages need root"
  [ -x "$repository/build/zerostep" ] || fail "there is no build/zerostep: run launch/build.sh first"
  missing=()
  for package in slurmctld slurmd slurm-client munge iproute2; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    # At run level 1 no package starts its daemon.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  exec "$repository/tests/launch/support/two_hosts.sh" -- "bash '$0' inside ${*:+$(printf '%q ' "$@")}"
fi
shift

# What the daemons keep for each node lies in its own /dev/shm.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
export SLURM_CONF=$folder/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=check
SlurmctldHost=h1
AuthType=auth/munge
AuthInfo=socket=/dev/shm/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder
SlurmdSpoolDir=/dev/shm
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=/dev/shm/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%h.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=h[1-2] CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
echo "PMIxCliTmpDirBase=/dev/shm" >"$folder/mpi.conf"
dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
chmod 600 "$folder/munge.key"
munged="munged --force --key-file=$folder/munge.key --socket=/dev/shm/munge.socket --pid-file=/dev/shm/munged.pid --log-file=/dev/shm/munged.log
  --seed-file=/dev/shm/munge.seed"
for host in h1 h2; do $ON $host $munged; done
slurmctld
for host in h1 h2; do $ON $host SLURM_CONF="$SLURM_CONF" slurmd; done
for ((wait = 0; $(sinfo -h -N -t idle 2>/dev/null | wc -l) < 2; ++wait)); do
  ((wait < 300)) || { tail -n 20 "$folder"/*.log; fail "the nodes do not come up"; }
  sleep 0.1
done

if [ $# -gt 0 ]; then
  "$@"
  exit
fi

# A model and resources that suit one machine.
cd "$folder"
ln -s "$repository/build" build
cat "$repository"/docs/*.md >corpus.txt
describe() {
  cat >run.json <<JSON
{"train_batch_size": 8, "train_micro_batch_size_per_gpu": 1, "seed": 3, "steps_per_print": 100, "zero_optimization": {"stage": 3},
 "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
 "model": {"family": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 32},
 "data": {"train": "corpus.txt", "sequence_length": 32}, "run": {"steps": $1}}
JSON
}
resources=(--nodes=2 --ntasks-per-node=2 --cpus-per-task=1)
job=("$repository/launch/slurm.sh" run.json long --set run.checkpoint_interval=1000)
state() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
ends_as() {  # JOB STATE SECONDS
  for ((wait = 0; wait < 10 * $3; ++wait)); do
    case $(state "$1") in PENDING | RUNNING | COMPLETING) sleep 0.1 ;; *) break ;; esac
  done
  [ "$(state "$1")" = "$2" ] || { tail -n 20 "slurm-$1.out"; fail "job $1 is $(state "$1") after $3 s, not $2"; }
}
rows() { cat runs/*/metrics.csv 2>/dev/null | wc -l; }
gets_on() {  # JOB ROWS
  for ((wait = 0; $(rows) < $2; ++wait)); do
    ((wait < 600)) && [ "$(state "$1")" != FAILED ] || { tail -n 20 "slurm-$1.out"; fail "job $1 does not run"; }
    sleep 0.1
  done
}
says() { grep -q "$2" "slurm-$1.out" || { tail -n 20 "slurm-$1.out"; fail "job $1 does not say '$2'"; }; }

describe 1000000
stopped="stopped by \(SIGUSR1\|another rank's signal\)"  # the rank that tells may hear of it from another
say "job 1: two nodes, 2 ranks each, 2 minutes, SIGUSR1 from Slurm 30 s before they are up or up to a minute earlier"
sbatch -Q "${resources[@]}" --time=2 --signal=USR1@30 "${job[@]}"
ends_as 1 COMPLETED 150
says 1 "$stopped"
first=$(($(rows) - 1))
say "it ended in order after $first steps"

say "job 2: the same again"
sbatch -Q "${resources[@]}" "${job[@]}"
gets_on 2 $((first + 50))
says 2 "goes on after step $first "
scancel --signal=USR1 2
ends_as 2 COMPLETED 60
says 2 "$stopped"
second=$(($(rows) - 1))
say "it went on from there and ended in order, told by scancel --signal=USR1, after $second steps"

say "job 3: to its end"
describe $((second + 100))
sbatch -Q "${resources[@]}" "${job[@]}"
ends_as 3 COMPLETED 60
awk -F, 'NR > 1 && $3 != NR - 2 { print "row " NR " of metrics.csv is of step " $3; exit 1 }' runs/*/metrics.csv || fail "metrics.csv has gaps"
[ "$(rows)" = $((second + 101)) ] || fail "metrics.csv holds $(($(rows) - 1)) steps, not $((second + 100))"
say "metrics.csv holds steps 0 to $((second + 99)), each once"

say "job 4: a rank is killed"
describe 1000000
sbatch -Q "${resources[@]}" "${job[@]}"
gets_on 4 $((second + 150))
pkill -KILL -n -x zerostep
ends_as 4 FAILED 30
says 4 'task [0-3]: Killed'
if pgrep -x zerostep >/dev/null; then fail "ranks are left running"; fi
say "$(grep -m 1 'Killed' slurm-4.out): all ranks have ended"

say "job 5: a sweep of 4 runs of 2 ranks as an array"
describe 40
cat >sweep.json <<JSON
{"base": "run.json", "name": "swept", "grid": {"step.mode": ["fo", "zo"]}, "repeat": {"seed": [1, 2]}, "resources": {"ranks": 2, "executor": "slurm"}}
JSON
build/zerostep sweep sweep.json >sweep.txt 2>&1 || { cat sweep.txt; fail "the sweep ends with status $?"; }
[ "$(grep -c ',done,slurm:5_[0-3],0,' runs/swept/runs.csv)" = 4 ] || { cat runs/swept/runs.csv; fail "runs.csv does not hold 4 runs that are done"; }
say "$(tail -n 1 sweep.txt)"
say "all well"
