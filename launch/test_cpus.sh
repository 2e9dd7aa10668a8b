#!/usr/bin/env bash
# Runs the tests of base, offload, models and runtime as processors of several kinds would, as far as this one can stand for them, on 1, 2
# and 16 threads, and prints a table: about two hours on 2 cores. Needs a finished build (launch/test.sh --cpus makes one).
# CPUS="avx2 own", THREADS="1" and PROGRAMS="models" run a part; FILTER='Engine*' runs those tests alone.
set -u
cd "$(dirname "$0")/.."
case ${1-} in
  "") ;;
  --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' launch/test_cpus.sh; exit ;;
  *) echo "launch/test_cpus.sh: '$1' is no option: it takes none (--help tells of CPUS, THREADS, PROGRAMS and FILTER)" >&2; exit 2 ;;
esac

programs=(${PROGRAMS:-base offload models runtime})
threads=(${THREADS:-1 2 16})
# Name; what the processor must have; LibTorch's, oneDNN's, MKL's and Highway's instruction sets, "-" leaves them alone. "plain" is LibTorch's
# code for any processor.
kinds=(
  "plain   avx2         default AVX2             AVX2   avx2"
  "avx2    avx2         avx2    AVX2             AVX2   avx2"
  "avx512  avx512bw     avx512  AVX512_CORE      AVX512 avx3"
  "bf16    avx512_bf16  avx512  AVX512_CORE_BF16 AVX512 -"
  "amx     amx_bf16     avx512  AVX512_CORE_AMX  AVX512 -"
  "own     -            -       -                -      -"
)
has() { [ "$1" = - ] || grep -qw -m1 "$1" /proc/cpuinfo; }

logs=build/cpus
mkdir -p "$logs"
export ZEROSTEP_SOURCE_DIR=$PWD ZEROSTEP_BINARY=$PWD/build/zerostep
printf 'this processor: %s\n' "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
printf '%-8s %-8s' cpu threads
printf ' %-24s' "${programs[@]}"
printf '\n'
status=0
failures=()
for kind in "${kinds[@]}"; do
  read -r name flag aten onednn mkl kernels <<<"$kind"
  [[ " ${CPUS:-$name} " == *" $name "* ]] || continue
  if ! has "$flag"; then
    printf '%-8s not on this processor (%s)\n' "$name" "$flag"
    continue
  fi
  settings=()
  [ "$aten" = - ] || settings+=("ATEN_CPU_CAPABILITY=$aten")
  [ "$onednn" = - ] || settings+=("ONEDNN_MAX_CPU_ISA=$onednn")
  [ "$mkl" = - ] || settings+=("MKL_ENABLE_INSTRUCTIONS=$mkl")
  [ "$kernels" = - ] || settings+=("ZEROSTEP_TEST_KERNELS=$kernels")
  for count in "${threads[@]}"; do
    printf '%-8s %-8s' "$name" "$count"
    for program in "${programs[@]}"; do
      log=$logs/$name-$count-$program.log
      start=$SECONDS
      env "${settings[@]}" OMP_NUM_THREADS="$count" "build/tests/${program}_tests" --gtest_brief=1 ${FILTER:+--gtest_filter="$FILTER"} >"$log" 2>&1
      result=$?
      passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\{0,1\}\.$/\1/p' "$log")
      if [ $result -eq 0 ]; then
        printf ' %-24s' "${passed:-0} passed, $((SECONDS - start)) s"
      else
        status=1
        failed=$(grep -c '^\[  FAILED  \].*ms)$' "$log")
        printf ' %-24s' "$failed FAILED, $((SECONDS - start)) s"
        failures+=("$log: exit status $result")
        while read -r line; do failures+=("  $line"); done < <(sed -n 's/^\[  FAILED  \] \([^ ,]*\).*ms)$/\1/p' "$log")
      fi
    done
    printf '\n'
  done
done
[ ${#failures[@]} -eq 0 ] || printf '%s\n' "" "${failures[@]}"
exit $status
