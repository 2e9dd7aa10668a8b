#!/usr/bin/env bash
# The bundle for machines with a GPU (launch/gpu_bundle.sh), checked on the GPU of the tests as it would be elsewhere: in an empty environment, from a
# folder of its own. Fails where a stage fails, where a part that must run has not, or where a failure would go unseen.
# usage: gpu_check.sh SOURCE_DIR BUILD_DIR LIBTORCH_DIR
set -euo pipefail
source=${1:?source folder} build=${2:?build folder} libtorch=${3:?folder of LibTorch}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash "$source/launch/gpu_bundle.sh" --build "$build" --out "$work/bundle"

if grep -rlF -e "$source" -e "$build" "$work/bundle"; then echo "the bundle names folders of this machine" && exit 1; fi
check() {  # STAGES ARGUMENTS...
  local stages=$1 && shift
  (cd / && env -i PATH=/usr/bin:/bin LIBTORCH="$libtorch" STAGES="$stages" "$@" bash "$work/bundle/gpu_check.sh" --fake --short --out "$work/out")
}
check "probe kernels equality" || { cat "$work/out/gpu_check.txt" && exit 1; }
check "ranks bandwidth first_order streaming machine" FAKE_GPU_DEVICES=3 || { cat "$work/out/gpu_check.txt" && exit 1; }
cat "$work/out/gpu_check.txt"

# Stages of an earlier call are kept, each part has run, and what has no meaning there says so.
python3 - "$work/out/gpu_check.json" <<'PYTHON'
import json, sys
stages = json.load(open(sys.argv[1]))["stages"]
results = {name: stage["result"] for name, stage in stages.items()}
assert results == {"probe": "pass", "kernels": "pass", "equality": "pass", "ranks": "pass", "bandwidth": "pass", "first_order": "pass", "streaming": "pass",
                   "machine": "pass"}, results
figures = stages["probe"]["figures"]
assert figures["NCCL: header"] == figures["NCCL: library"] and figures["NCCL: header"].startswith("2."), figures
assert stages["bandwidth"]["figures"] == {"rows of cuda_bench": 20}, stages["bandwidth"]
assert stages["streaming"]["figures"]["2 units, q = 8, 64 tokens: copies in the pipeline, GB/s"] > 0, stages["streaming"]
assert stages["streaming"]["not_run"] == ["rates: the GPU of the tests has no speed"], stages["streaming"]
assert 0 < stages["first_order"]["figures"]["2 units: share of the time in which the GPU works, by marks"] <= 1, stages["first_order"]
assert stages["first_order"]["not_run"][1] == "rates: the GPU of the tests has no speed", stages["first_order"]
assert stages["bandwidth"]["not_run"] == ["rates: the GPU of the tests has no speed"], stages["bandwidth"]
machine = stages["machine"]["figures"]
assert machine["name"] == "Fake GPU" and machine["multiprocessors"] == 4 and machine["links.host_to_device.gb_per_s"] > 0, machine
assert any(name.startswith("gemm bf16 16 x ") and name.endswith(": tflops") and value > 0 for name, value in machine.items()), machine
assert machine["first order: milliseconds of a step, predicted"] > 0, machine
assert stages["machine"]["not_run"] == ["the prediction against the run: the GPU of the tests has no speed"], stages["machine"]
for case in ("gpt2 fo fp32", "gpt2 zo fp32"):
    figures = stages["equality"]["figures"]
    assert 0 <= figures[f"{case}: losses differ by"] <= 1e-5, figures
    assert figures[f"{case}: twice the same bits"] == "yes", figures
shared = "staged in pinned memory: ranks 0 and 3 share a GPU"
for case, way in (("2 ranks, stage 3, fo", "NCCL"), ("3 ranks, stage 3, fo", "NCCL"), ("4 ranks, stage 3, fo", shared)):
    assert 0 <= stages["ranks"]["figures"][f"{case}: losses differ by"] <= 1e-5, stages["ranks"]
    assert stages["ranks"]["figures"][f"{case}: collectives"] == way, stages["ranks"]
alone = "NCCL by two ranks of one GPU, over sockets"
assert stages["ranks"]["figures"][f"{alone}: it works"] == "yes", stages["ranks"]
assert 0 <= stages["ranks"]["figures"][f"{alone}: losses differ by"] <= 1e-5, stages["ranks"]
PYTHON

# Bounds fail where they should, on figures of which none are made here.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$source/launch/gpu_check python3 - "$work" <<'PYTHON'
import array, json, math, os, sys
from check import Stage
from equality import gradient_difference, nccl_on_one_gpu, relative
from machine import compare_prediction, step_seconds
from probe import compare_nccl
from programs import Outcome, Run
from speed import bandwidth
assert relative([1.0, 2.1], [1.0, 2.0]) - 0.05 < 1e-12
assert relative([1.0], [1.0, 2.0]) == relative([math.nan], [1.0]) == relative([], []) == math.inf
large, small, other = (array.array("f", values) for values in ([3, 4], [0.001], [0.002]))
whole, worst, name = gradient_difference({"a": large, "b": other}, {"a": large, "b": small})
assert abs(whole - 0.001 / 5) < 1e-8 and abs(worst - 0.001 / 0.05) < 1e-6 and name == "b", (whole, worst, name)
assert gradient_difference({"a": large}, {"b": large})[0] == math.inf
for library, failures, notes in ((22809, 0, 0), (22907, 0, 1), (2804, 0, 1), (30000, 1, 0)):
    stage = Stage("probe", 30, {}, "")
    compare_nccl(stage, 22809, library)
    assert (len(stage.failures), len(stage.notes)) == (failures, notes), (library, stage.report())
assert stage.failures == ["NCCL's library is 3.0.0; the program is built for 2"] and stage.figures["NCCL: header"] == "2.28.9", stage.report()


class Benched:
    is_fake = False

    def path(self, name):
        return name

    def run(self, *_, **__):
        return Outcome(0, """128 elements; medians of 9 rounds
                                         ms     GB/s    / copy   / bound   floor
copy                                  0.300     3579      1.00      1.00
AdamW                                 1.200     3355      0.94      0.94    0.85
SGD gaussian, q = 8                   1.900      706      0.20      0.71    0.80 !
""", 1)


stage = Stage("bandwidth", 40, {}, "")
bandwidth(stage, Benched())
assert stage.figures["copy: GB/s"] == 3579 and stage.figures["AdamW: share of its bound"] == 0.94, stage.figures
assert stage.failures == ["SGD gaussian, q = 8: share of its bound: 0.71, at least 0.8 is expected"], stage.failures
stage.figure("loss", math.nan, most=1e-5)
assert len(stage.failures) == 2 and stage.report()["result"] == "fail", stage.failures

# A prediction may be a quarter away from what the stage first_order has measured; without that, or without a time, nothing is compared.
assert step_seconds('warning: {}\n{\n  "step_seconds": 0.5\n}\nmore\n') == 0.5 and step_seconds("{\n}\n") is None and step_seconds("") is None
for predicted, measured, result, failures, not_run in ((0.5, 650, "pass", 0, 0), (0.5, 390, "fail", 1, 0), (0.5, 680, "fail", 1, 0), (0.5, None, "pass", 0, 1), (None, 500, "fail", 1, 0)):
    stage = Stage("machine", 60, {"first_order": {"milliseconds of a step": measured}} if measured else {}, "")
    compare_prediction(stage, predicted, False)
    found = stage.report()
    assert (found["result"], len(stage.failures), len(stage.not_run)) == (result, failures, not_run), found
assert stage.failures == ["the plan of the first-order run predicts no time from what was measured"], stage.failures

# Two steps of two copies each, of which those of the second count: 300 bytes in 3 ms.
run = Run(sys.argv[1], Outcome(1, "", 1))
run.rows, run.plan = [{}, {}], {"buffers": [{"kind": "parameters", "tier": "host", "bytes": 300}, {"kind": "scalars", "tier": "host", "bytes": 8}]}
spans = [{"name": name, "ts": at, "dur": took} for name, at, took in (("bring a", 9e3, 1e3), ("bring a", 0, 7e3), ("bring b", 1e4, 2e3), ("bring b", 8e3, 5e3))]
for traced, rate in ((spans, 1e5), (spans[1:], None), ([], None)):
    with open(os.path.join(run.folder, "trace_rank0.json"), "w") as file:
        json.dump({"traceEvents": [{"name": "forward a", "ts": 0, "dur": 1e6}, *traced]}, file)
    found = run.streaming_rate()
    assert found is None if rate is None else abs(found - rate) < 1e-6 * rate, found


# Of two steps the second: 2 + 3 + 1 of 10 ms, some of it twice, and a wait.
steps = [("forward a", 0, 4, "computation"), ("backward a", 2, 4, "computation"), ("forward a", 10, 2, "computation"), ("gather b", 12, 4, "communication"),
         ("wait for b", 12, 2, "computation"), ("backward a", 14, 3, "computation"), ("update a", 15, 1, "computation"), ("update b", 19, 1, "computation")]
for traced, share in ((steps, 0.6), (steps[:2], None), ([], None)):
    with open(os.path.join(run.folder, "trace_rank0.json"), "w") as file:
        json.dump({"traceEvents": [{"name": name, "ts": at, "dur": took, "tid": row} for name, at, took, row in traced]}, file)
    found = run.computing_share()
    assert found is None if share is None else abs(found - share) < 1e-12, found


class Refused:
    status = 1
    work = sys.argv[1]

    def begin_training(self, *_):
        return None

    def end_training(self, *_):
        return Run("", Outcome(self.status, "zerostep: [cuda:0] NCCL refuses a start: invalid usage\n\nmpirun noticed a status that is not 0, and aborts the job\n", 1))


# NCCL that does not take two ranks of one GPU is reported, and is no failure.
stage = Stage("ranks", 50, {}, "")
nccl_on_one_gpu(stage, Refused(), [1.0])
assert stage.report()["result"] == "pass" and list(stage.figures.values()) == ["no"], stage.report()
assert stage.notes[0].endswith(": the run ends with 1: zerostep: [cuda:0] NCCL refuses a start: invalid usage"), stage.notes
Refused.status = 124  # it was ended
stage = Stage("ranks", 50, {}, "")
nccl_on_one_gpu(stage, Refused(), [1.0])
assert stage.report()["result"] == "not run" and "the run did not end in 40 s" in stage.not_run[0], stage.report()
PYTHON

# A program that cannot start fails the probe, whose report says which library lacks and what kernel_check.cu says; what follows is not run.
for library in "$work"/bundle/lib/libspdlog.so.*; do : >"$library"; done
if check "probe equality" >/dev/null; then echo "a program that cannot start passes" && exit 1; fi
for said in 'FAILED   the program does not start: .*libspdlog' 'FAILED   kernel_check.cu: cudaMalloc: ' 'not run  everything: the program does not start'; do
  grep -q "$said" "$work/out/gpu_check.txt" || { echo "'$said' is not said" && cat "$work/out/gpu_check.txt" && exit 1; }
done
