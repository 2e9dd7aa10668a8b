#!/usr/bin/env bash
# Sets up, builds and runs every test: about 22 minutes from nothing on 2 cores, 10 of them tests. Needs no GPU.
# usage: launch/test.sh [--cpus]
# --cpus runs the tests of base, offload, models and runtime over the kinds of processors instead (launch/test_cpus.sh says how to run a part).
# JOBS=N sets the number of parallel compile jobs (the number of cores by default).
set -euo pipefail
cd "$(dirname "$0")/.."
for argument in "$@"; do
  case $argument in
    --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' launch/test.sh; exit ;;
    --cpus) ;;
    *) echo "launch/test.sh: '$argument' is no option; usage: launch/test.sh [--cpus] (--help tells more)" >&2; exit 2 ;;
  esac
done
bash launch/setup.sh
bash launch/build.sh
[ "${1:-}" != --cpus ] || exec bash launch/test_cpus.sh
status=0
ctest --test-dir build --output-on-failure --timeout 900 -j 2 || status=$?
# ctest names a skipped test; this says why.
reason=$(tests/launch/support/two_hosts.sh 10mbit -- true 2>&1) || echo "[test] two_hosts was skipped: $reason"
exit $status
