#!/usr/bin/env bash
# Starts the program on several hosts with mpirun, as many ranks on each as it has GPUs, or as are given.
# usage: launch/hosts.sh HOSTFILE [--ranks N] [--network CIDR] -- COMMAND...
#   launch/hosts.sh hosts --ranks 8 --network 10.1.0.0/16 -- train run.json
# HOSTFILE       a host a line, as mpirun reads it; # begins a comment
# --ranks N      ranks on each host (default: the GPUs that nvidia-smi lists here)
# --network CIDR the network that mpirun, MPI and NCCL take, where hosts have several
# Hands on what is set here of: OMP_NUM_THREADS, LD_LIBRARY_PATH, XDG_CACHE_HOME, and all that begins with ZEROSTEP_, NCCL_ or CUDA_. mpirun looks for a lost
# host every 30 s. ZEROSTEP=/path/of/zerostep names another program, MPIRUN another mpirun or further options of it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
usage() { echo "usage: launch/hosts.sh HOSTFILE [--ranks N] [--network CIDR] -- COMMAND..." >&2; exit 2; }
fail() { echo "launch/hosts.sh: $*" >&2; exit 2; }

[ $# -ge 1 ] && [ "$1" != -- ] || usage
hostfile=$1 ranks="" network=""
shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --ranks) ranks=$2 ;;
    --network) network=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ $# -ge 2 ] || usage
shift

[ -r "$hostfile" ] || fail "the file of hosts '$hostfile' cannot be read"
hosts=$(sed 's/#.*//' "$hostfile" | awk 'NF { print $1 }' | sort -u | wc -l)
[ "$hosts" -gt 0 ] || fail "'$hostfile' names no host"
if [ -z "$ranks" ]; then
  ranks=$( (nvidia-smi --list-gpus 2>/dev/null || true) | grep -c '^GPU' || true)
  [ "$ranks" -gt 0 ] || fail "this host shows no GPU: --ranks N says how many ranks a host has"
fi
[[ $ranks =~ ^[1-9][0-9]*$ ]] || fail "--ranks '$ranks' is no number of ranks"

# Two of a host's ranks share its cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) > ranks ? $(nproc) / ranks : 1))}
arguments=(-np $((hosts * ranks)) --hostfile "$hostfile" --map-by "ppr:$ranks:node" --bind-to none
  --mca oob_tcp_keepalive_time 30 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3)
if [ -n "$network" ]; then
  arguments+=(--mca btl_tcp_if_include "$network" --mca oob_tcp_if_include "$network")
  # NCCL knows networks by their interfaces' names.
  interface=$(ip -o route show "$network" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  [ -n "$interface" ] || fail "this host has no interface of network '$network' (ip route lists them)"
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$interface}
fi
for variable in $(compgen -e); do
  case $variable in
    OMP_NUM_THREADS | LD_LIBRARY_PATH | XDG_CACHE_HOME | ZEROSTEP_* | NCCL_* | CUDA_*) arguments+=(-x "$variable") ;;
  esac
done
read -ra mpirun <<<"${MPIRUN:-mpirun}"
exec "${mpirun[@]}" "${arguments[@]}" "${ZEROSTEP:-$repository/build/zerostep}" "$@"
