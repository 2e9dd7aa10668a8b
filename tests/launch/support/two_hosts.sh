#!/usr/bin/env bash
# Two hosts on one machine: h1 and h2 have a network, a name and a /dev/shm of their own and meet at a switch. Files are those of the machine. All of it
# ends with the script. Needs iproute2, and root or the right to make user namespaces; exit 77 where that is not permitted.
# usage: two_hosts.sh [RATE] -- COMMAND...      RATE bounds what each host sends, as tc writes it: 10mbit, 256kbit
# COMMAND runs on h1. In it $MPI is an mpirun that places ranks on h1 and h2 in turn and starts them as over ssh, without the environment of h1;
# `$ON h2 COMMAND...` runs something on a host; `$LINK h2 down` cuts its cable.
#   tests/launch/support/two_hosts.sh 10mbit -- '$MPI -np 2 -x OMP_NUM_THREADS=1 build/zerostep train configs/quickstart.json --set run.steps=20'
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin  # where tc lies is not on every user's path

not_permitted() { echo "two hosts cannot be made here: $*" >&2; exit 77; }

if [ "${1-}" != inside ]; then
  command -v ip >/dev/null || not_permitted "there is no ip command (Debian package iproute2)"
  spaces=(--fork --kill-child --pid --mount-proc --net --mount)
  [ "$(id -u)" = 0 ] || spaces+=(--user --map-root-user)
  refusal=$(unshare "${spaces[@]}" true 2>&1) || not_permitted "$refusal"
  # A process that unshare has forked is the first of its PID namespace: with it go all others.
  exec unshare "${spaces[@]}" bash "$0" inside "$@"
fi
shift

rate=
[ "${1-}" = -- ] || { rate=$1; shift; }
[ "${1-}" = -- ] && [ $# -gt 1 ] || { echo "usage: two_hosts.sh [RATE] -- COMMAND..." >&2; exit 2; }
shift

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '127.0.0.1 localhost\n10.88.0.1 h1\n10.88.0.2 h2\n' >"$folder/hosts"

network() { local refusal; refusal=$("$@" 2>&1) || not_permitted "$*: $refusal"; }
network ip link add switch type bridge
ip link set switch up
for number in 1 2; do
  host=h$number
  # A process that holds the namespaces of the host.
  unshare --net --uts --mount --ipc bash -c "hostname $host; mount -t tmpfs tmpfs /dev/shm; mount --bind '$folder/hosts' /etc/hosts
    ip link set lo up; echo \$\$ >'$folder/new'; mv '$folder/new' '$folder/$host'; exec sleep infinity" &
  until [ -e "$folder/$host" ]; do kill -0 $! 2>/dev/null || not_permitted "the namespaces of a host"; sleep 0.01; done
  network ip link add "port$number" type veth peer name eth0 netns "$(cat "$folder/$host")"
  ip link set "port$number" master switch up
  inside=(nsenter -t "$(cat "$folder/$host")" -n)
  "${inside[@]}" ip addr add "10.88.0.$number/24" dev eth0
  "${inside[@]}" ip link set eth0 up
  if [ -n "$rate" ]; then network "${inside[@]}" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kbit latency 400ms; fi
done

# mpirun calls it as it would call ssh: options, host, command. Of the environment only what a login gives arrives.
cat >"$folder/on" <<ON
#!/usr/bin/env bash
while [ "\${1#-}" != "\$1" ]; do shift; done
holder=\$(cat "$folder/\$1"); shift
exec nsenter -t "\$holder" -n -u -m -i -- env -i HOME="\$HOME" PATH="$PATH" TMPDIR="${TMPDIR:-/tmp}" bash -c "\$*"
ON
cat >"$folder/link" <<LINK
#!/usr/bin/env bash
exec nsenter -t "\$(cat "$folder/\$1")" -n -- ip link set eth0 "\$2"
LINK
chmod +x "$folder/on" "$folder/link"
export ON=$folder/on LINK=$folder/link
export MPI="mpirun --allow-run-as-root --oversubscribe --bind-to none --map-by node --host h1:64,h2:64 --mca plm_rsh_agent $folder/on"
nsenter -t "$(cat "$folder/h1")" -n -u -m -i -- bash -c "cd '$PWD'; $*"
