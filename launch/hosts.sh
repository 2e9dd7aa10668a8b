#!/usr/bin/env bash
# Starts the program with mpirun on several hosts that are like this one: as many ranks on each as this one has GPUs, or as are given, which share its cores.
# usage: launch/hosts.sh HOSTFILE [--ranks N] [--network CIDR] -- COMMAND...
#   launch/hosts.sh hosts --ranks 8 --network 10.1.0.0/16 -- train run.json
# HOSTFILE       a host a line, as mpirun reads it; # begins a comment
# --ranks N      ranks on each host (default: the GPUs in CUDA_VISIBLE_DEVICES, or that nvidia-smi lists here)
# --network CIDR the network that mpirun, MPI and NCCL take, where hosts have several
# Hands on what is set here of: LD_LIBRARY_PATH, XDG_CACHE_HOME, and all that begins with OMP_, ZEROSTEP_, NCCL_, CUDA_ or CUBLAS_.
# ZEROSTEP=/path/of/zerostep names another program; MPIRUN="mpirun --allow-run-as-root" another mpirun, with options of its own. mpirun starts ranks by ssh,
# which must not ask for a password, and looks for a lost host every 30 s.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "launch/hosts.sh: $*" >&2; exit 2; }
usage() { fail "$1; usage: launch/hosts.sh HOSTFILE [--ranks N] [--network CIDR] -- COMMAND... (--help tells more)"; }

case ${1-} in
  --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit ;;
  "") usage "the file of hosts comes first" ;;
  -*) usage "'$1' stands where the file of hosts does, which comes first" ;;
esac
hostfile=$1 ranks="" network=""
shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --ranks | --network) [ -n "${2-}" ] || usage "$1 has no value" ;;&
    --ranks) ranks=$2; shift ;;
    --ranks=*) ranks=${1#*=} ;;
    --network) network=$2; shift ;;
    --network=*) network=${1#*=} ;;
    *) usage "'$1' is no option; the program's own arguments come behind --" ;;
  esac
  shift
done
[ $# -ge 2 ] || usage "nothing is to be run: -- and a command lack"
shift

[ -f "$hostfile" ] && [ -r "$hostfile" ] || fail "the file of hosts '$hostfile' cannot be read"
hosts=$(sed 's/#.*//' "$hostfile" | awk 'NF { print $1 }' | sort -u | wc -l)
[ "$hosts" -gt 0 ] || fail "'$hostfile' names no host"
if [ -z "$ranks" ]; then
  if [ -n "${CUDA_VISIBLE_DEVICES-}" ]; then
    ranks=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)
  else
    ranks=$( (nvidia-smi --list-gpus 2>/dev/null || true) | grep -c '^GPU' || true)
  fi
  [ "$ranks" -gt 0 ] || fail "this host shows no GPU: --ranks N says how many ranks a host has"
fi
[[ $ranks =~ ^[1-9][0-9]{0,3}$ ]] || fail "--ranks '$ranks' is no number of ranks"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) > ranks ? $(nproc) / ranks : 1))}
arguments=(-np $((hosts * ranks)) --hostfile "$hostfile" --map-by "ppr:$ranks:node" --bind-to none
  --mca oob_tcp_keepalive_time 30 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3)
if [ -n "$network" ]; then
  arguments+=(--mca btl_tcp_if_include "$network" --mca oob_tcp_if_include "$network")
  # NCCL knows networks by their interfaces' names.
  interface=$( (ip -o route show "$network" 2>/dev/null || true) | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  [ -n "$interface" ] || fail "this host has no interface of network '$network' (ip route lists them)"
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$interface}
fi
for variable in $(compgen -e); do
  case $variable in
    LD_LIBRARY_PATH | XDG_CACHE_HOME | OMP_* | ZEROSTEP_* | NCCL_* | CUDA_* | CUBLAS_*) arguments+=(-x "$variable") ;;
  esac
done
read -ra mpirun <<<"${MPIRUN:-mpirun}"
exec "${mpirun[@]}" "${arguments[@]}" "${ZEROSTEP:-$repository/build/zerostep}" "$@"
