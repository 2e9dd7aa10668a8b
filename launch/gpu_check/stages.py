"""The stages of launch/gpu_check.sh, a function each: stage(STAGE, PROGRAMS) puts figures, failures and what was not run into STAGE."""
import ctypes
import glob
import json
import math
import os
import re
import shutil
import statistics

import configs

NO_SPEED = "the GPU of the tests has no speed"
BF16_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}  # dense, of the data sheets, operations a second


# ---- probe

def probe(stage, programs):
    """What machine this is, whether every library is found, the rates that others are compared with."""
    if shutil.which("nvidia-smi"):
        asked = programs.run("nvidia-smi", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"], 10)
        gpus = [line for line in asked.text.splitlines() if line.strip()]
        stage.figure("GPUs", len(gpus))
        stage.figure("GPU, driver, memory, capability", gpus[0] if gpus else "none")
    else:
        stage.skip("the GPU's name and driver", "there is no nvidia-smi")
    if programs.gpus() == 0:
        stage.fail("no GPU answers: the driver's libcuda.so.1 is not there, does not start, or has no device")
    about = os.path.join(programs.torch, "version.py")
    about = open(about).read() if os.path.exists(about) else ""
    torch, cuda = (re.search(rf"^{name}\b[^='\n]*=\s*'([^']*)'", about, re.M) for name in ("__version__", "cuda"))
    stage.figure("LibTorch", torch.group(1) if torch else "unknown")
    stage.figure("CUDA of LibTorch", cuda.group(1) if cuda else "unknown")
    if torch and not torch.group(1).startswith("2.11."):
        stage.fail(f"LibTorch is {torch.group(1)}; the program is built for 2.11")
    if cuda and not cuda.group(1).startswith("13."):
        stage.fail(f"LibTorch is for CUDA {cuda.group(1)}; the program is built for CUDA 13")
    # LibTorch's operators for GPUs are opened when a run takes one.
    operators = os.path.join(programs.torch, "lib", "libtorch_cuda.so")
    if not os.path.exists(operators):
        stage.fail(f"there is no {operators}: this PyTorch is one without CUDA")
    for path in [*map(programs.path, ("zerostep", "libzerostep_cuda.so", "cuda_tests", "cuda_model_tests", "cuda_bench")), operators]:
        name = os.path.basename(path)
        linked = programs.run(f"ldd {name}", ["ldd", path], 10)
        missing = sorted({line.strip() for line in linked.text.splitlines() if "not found" in line})
        stage.figure(f"libraries that {name} does not find", len(missing))
        for line in missing:
            stage.fail(f"{name}: {line}")
    version = programs.run("version", [programs.path("zerostep"), "--version"], 20)
    if version.status == 0:
        stage.figure("zerostep", version.text.strip().splitlines()[-1])
    else:
        stage.fail(f"the program does not start: {version.last_words()}")
        check_noise_alone(stage, programs)
    report_nccl(stage, programs)
    if programs.is_fake:
        stage.skip("copy and GEMM ceilings", NO_SPEED)
    elif stage.has_time("copy and GEMM ceilings", 5):
        found, why = programs.python("ceilings", "ceilings.py", [], stage.left())
        if found is None:
            stage.skip("copy and GEMM ceilings", why)
        for name, value in (found or {}).items():
            stage.figure(name, value)


def check_noise_alone(stage, programs):
    """kernel_check.cu, where the program does not start."""
    compilers = [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc", os.path.join(programs.torch, "../nvidia/cu13/bin/nvcc")]
    nvcc = next((path for path in compilers if path and os.path.exists(path)), None)
    if nvcc is None:
        return stage.skip("kernel_check.cu", "there is no nvcc to build it")
    sources = os.path.join(programs.bundle, "sources")
    built = programs.run("kernel_check build", [nvcc, "-std=c++20", "-fmad=false", "-arch=native", "-I" + sources, "-o", os.path.join(programs.work, "kernel_check"),
                                                os.path.join(sources, "launch", "kernel_check.cu")], 20)
    if built.status != 0:
        return stage.fail(f"kernel_check.cu does not compile: {built.last_words()}")
    done = programs.run("kernel_check", [os.path.join(programs.work, "kernel_check")], 10)
    stage.figure("kernel_check.cu", "bits are the host's" if done.status == 0 else done.last_words())
    if done.status != 0:
        stage.fail(f"kernel_check.cu: {done.last_words()}")


def report_nccl(stage, programs):
    """The library of NCCL that the program opens, beside the header that it was compiled with."""
    with open(os.path.join(programs.bundle, "nccl_header.txt")) as file:
        header = int(file.read())
    found = glob.glob(os.path.join(programs.torch, "../nvidia/*/lib/libnccl.so.2"))
    path = os.path.join(programs.bundle, "fake", "libfake_gpu.so") if programs.is_fake else found[0] if found else "libnccl.so.2"
    version = ctypes.c_int()
    try:
        ctypes.CDLL(path).ncclGetVersion(ctypes.byref(version))
    except OSError as error:
        return stage.note(f"there is no NCCL, without which collectives of GPUs pass through the host: {error}")
    compare_nccl(stage, header, version.value)


def compare_nccl(stage, header, library):
    def major(code):
        return code // (1000 if code < 10000 else 10000)  # since 2.9 the other way

    def shown(code):
        return ".".join(map(str, (major(code), code // 100 % (10 if code < 10000 else 100), code % 100)))

    stage.figure("NCCL: header", shown(header))
    stage.figure("NCCL: library", shown(library))
    if major(header) != major(library):
        stage.fail(f"NCCL's library is {shown(library)}; the program is built for {major(header)}")
    elif header != library:
        stage.note(f"NCCL's library is {shown(library)}; the program was compiled with the header of {shown(header)}")


# ---- kernels

def kernels(stage, programs):
    """The tests of kernels on the device; then within compute-sanitizer."""
    num_tests = num_failed = 0
    for program, some in (("cuda_tests", "CudaKernels.Casts:HostOperands.*"), ("cuda_model_tests", "ModelKernels.Dropout*:ModelKernels.Swiglu*")):
        results = os.path.join(programs.logs, f"{program}.json")
        if os.path.exists(results):
            os.remove(results)
        command = [programs.path(program), f"--gtest_output=json:{results}"] + ([f"--gtest_filter={some}"] if programs.is_short else [])
        done = programs.run(program, command, stage.left(), on_gpu=True)
        if os.path.exists(results):
            with open(results) as file:
                found = json.load(file)
            tests = [test for suite in found["testsuites"] for test in suite["testsuite"]]
            failed = [f"{test['classname']}.{test['name']}: {test['failures'][0]['failure'].splitlines()[-1]}" for test in tests if test.get("failures")]
            num_tests += len(tests)
            num_failed += len(failed)
            for failure in failed:
                stage.fail(failure)
        if done.status != 0:
            stage.fail(f"{program} {done.why()}")
    stage.figure("tests", num_tests, least=1)
    stage.figure("tests that fail", num_failed)
    sanitizer = shutil.which("compute-sanitizer") or next(iter(glob.glob("/usr/local/cuda/bin/compute-sanitizer")), None)
    for tool in ("memcheck", "racecheck"):
        if programs.is_fake:
            stage.skip(f"compute-sanitizer {tool}", "the GPU of the tests runs no code of a device")
        elif sanitizer is None:
            stage.skip(f"compute-sanitizer {tool}", "it is not installed here")
        elif stage.has_time(f"compute-sanitizer {tool}", 3):
            tests = "CudaKernels.Casts:CudaKernels.DrawsNoise:CudaKernels.Perturbs:CudaKernels.SumsInAnOrderOfTheirOwn:CudaKernels.LowRankDirections"
            checked = programs.run(f"sanitizer {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "9", programs.path("cuda_tests"),
                                                         f"--gtest_filter={tests}"], stage.left())
            errors = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", checked.text)
            if checked.status == 124:
                stage.skip(f"compute-sanitizer {tool}", "it did not end in time")
            elif not errors:
                stage.skip(f"compute-sanitizer {tool}", f"it does not work here: {checked.last_words()}")
            else:
                stage.figure(f"errors of compute-sanitizer {tool}", int(errors[-1]), most=0)


# ---- equality

def relative(found, expected):
    """The largest difference of two lists of numbers, as a share of the expected one; infinite where they cannot be compared."""
    if len(found) != len(expected) or not expected or not all(map(math.isfinite, found)):
        return math.inf
    return max(abs(f - e) / max(abs(e), 1e-30) for f, e in zip(found, expected))


def gradient_difference(found, expected):
    """Of two dictionaries of values by parameter: the norm of the difference over the norm of the whole gradient, and the same of the worst
    parameter, whose norm counts as a hundredth of the whole gradient's at least, with its name."""
    if found.keys() != expected.keys() or not expected:
        return math.inf, math.inf, "parameters are not the same"
    squares = {name: (sum((f - e) ** 2 for f, e in zip(found[name], values)), sum(e * e for e in values)) for name, values in expected.items()}
    norm = math.sqrt(sum(of for _, of in squares.values()))
    if not norm > 0:
        return math.inf, math.inf, "the gradient is 0"
    worst = {name: math.sqrt(difference) / max(math.sqrt(of), norm / 100) for name, (difference, of) in squares.items()}
    name = max(worst, key=worst.get)
    return math.sqrt(sum(difference for difference, _ in squares.values())) / norm, worst[name], name


def equality(stage, programs):
    """10 steps of small models: the GPU against the processor, and against itself."""
    models = ["gpt2"] if programs.is_short else list(configs.SMALL_MODELS)
    precisions = ["fp32"] if programs.is_short else ["fp32", "bf16"]
    cases = [(model, mode, precision) for precision in precisions for mode in ("fo", "zo") for model in models]
    # Several at a time: most of their time is that of starting.
    waiting = [(case, device, again) for case in cases for device, again in (("cpu", 0), ("cuda", 0), ("cuda", 1)) if again == 0 or case[2] == "fp32"]
    running, runs = [], {}
    while waiting or running:
        while waiting and len(running) < max(2, min(6, (os.cpu_count() or 2) // 2)) and stage.left() > 5:
            case, device, again = waiting.pop(0)
            name = "-".join([*case, device, str(again)])
            running.append(((case, device, again), programs.begin_training(name, configs.small(programs.work, *case), device)))
        if not running:
            break
        key, begun = running.pop(0)
        runs[key] = programs.end_training(begun, stage.left())
    for case in cases:
        compare(stage, case, runs)


def compare(stage, case, runs):
    model, mode, precision = case
    name = " ".join(case)
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    host, device, again = (runs.get((case, *key)) for key in (("cpu", 0), ("cuda", 0), ("cuda", 1)))
    if host is None or device is None:
        return stage.skip(name, "the time of the stage was up")
    for run, where in ((host, "cpu"), (device, "cuda"), (again, "cuda, again")):
        if run is not None and not run.is_done:
            return stage.fail(f"{name} on {where} {run.outcome.why()}")
    losses, expected = device.column("loss"), host.column("loss")
    stage.figure(f"{name}: losses differ by", relative(losses, expected), most=tolerance)
    if mode == "fo":
        whole, worst, parameter = gradient_difference(device.checkpoint(1, "state.0"), host.checkpoint(1, "state.0"))
        stage.figure(f"{name}: the gradient differs by", whole, most=tolerance)
        stage.figure(f"{name}: that of {parameter} by", worst, most=tolerance)
    else:
        # A scalar is a difference of two losses over 2 epsilon: it is as exact as they are.
        found, right = ([p for line in run.scalars() for p in line] for run in (device, host))
        epsilon = 1e-3
        away = max((abs(f - e) for f, e in zip(found, right)), default=math.inf) if len(found) == len(right) else math.inf
        stage.figure(f"{name}: scalars differ by", away, most=tolerance * max(expected) / epsilon)
    if again is not None:
        same = losses == again.column("loss")
        if mode == "fo":
            same = same and device.checkpoint(10, "values") == again.checkpoint(10, "values")
        else:
            same = same and device.scalars() == again.scalars()
        stage.figure(f"{name}: twice the same bits", "yes" if same else "no")
        if not same:
            stage.fail(f"{name}: two runs on the GPU differ")
    elif precision == "fp32":
        stage.skip(f"{name}: twice the same bits", "the time of the stage was up")
    # Reported here: what libraries take for themselves (cuBLAS) is more than so small a model. The larger models have a bound.
    stage.figure(f"{name}: device memory, measured / planned", max(device.column("device_peak_bytes")) / device.plan["device_peak_bytes"])


# ---- ranks

def ranks(stage, programs):
    """Ranks on the GPUs that there are, against as many on the processor: threads that share one, bitwise; then under mpirun, through NCCL with a GPU each,
    else staged in pinned memory; at last through NCCL by two that share one."""
    threads = programs.run("threads", [programs.path("cuda_tests"), "--gtest_filter=*ThreadRanks*"], stage.left(), on_gpu=True)
    expected = None  # losses of two ranks of the processor
    passed = re.search(r"PASSED\s+\] (\d+) test", threads.text)
    stage.figure("2 and 4 ranks that are threads of a GPU, bitwise: tests passed", int(passed[1]) if passed else 0, least=2)
    cases = [(2, 3, "fo"), (4, 3, "fo"), *([] if programs.is_short else [(2, 2, "zo"), (4, 1, "fo")])]
    if (gpus := min(8, programs.gpus())) > 2 and gpus != 4:
        cases.insert(2, (gpus, 3, "fo"))  # a GPU each
    for world, zero, mode in cases:
        name = f"{world} ranks, stage {zero}, {mode}"
        if not stage.has_time(name, 5):
            continue
        config = configs.small(programs.work, "gpt2", mode, "fp32", world, zero)
        begun = [programs.begin_training(f"ranks-{world}-{zero}-{mode}-{where}", config, where, world, 1) for where in ("cpu", "cuda")]
        host, device = (programs.end_training(run, stage.left()) for run in begun)
        failed = [(where, run.outcome) for where, run in (("cpu", host), ("cuda", device)) if not run.is_done]
        for where, outcome in failed:
            stage.fail(f"{name} on {where} {outcome.why()}")
        if not failed:
            stage.figure(f"{name}: losses differ by", relative(device.column("loss"), host.column("loss")), most=1e-5)
            staged = re.search("pass through pinned memory of the host, slower than between GPUs: (.*)", device.outcome.text)
            stage.figure(f"{name}: collectives", f"staged in pinned memory: {staged[1]}" if staged else "NCCL")
            moved = all(device.column(column) == host.column(column) for column in ("elements_gathered", "elements_reduced"))
            stage.figure(f"{name}: elements moved are those of the processor", "yes" if moved else "no")
            if not moved:
                stage.fail(f"{name}: elements moved are not those of the processor")
            if (world, zero, mode) == (2, 3, "fo"):
                expected = host.column("loss")
    nccl_on_one_gpu(stage, programs, expected)


def nccl_on_one_gpu(stage, programs, expected):
    """Two ranks that share a GPU through NCCL, which takes them for ranks of two hosts and goes over sockets. NVIDIA does not promise that this works:
    it is reported, and fails nothing."""
    name = "NCCL by two ranks of one GPU, over sockets"
    if not stage.has_time(name, 10):
        return
    if expected is None:
        return stage.skip(name, "there is nothing to compare it with: two ranks of the processor have not trained")
    apart = [{"NCCL_HOSTID": f"gpu-check-{rank}", "NCCL_NET": "Socket", "NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": first_gpu()}
             for rank in range(2)]
    config = configs.small(programs.work, "gpt2", "fo", "fp32", 2, 3)
    environment = {"ZEROSTEP_COMM": "nccl", "NCCL_DEBUG": "WARN"}
    begun = programs.begin_training("ranks-nccl-one-gpu", config, "cuda", 2, 1, environment, apart)
    seconds = min(40, stage.left())
    run = programs.end_training(begun, seconds)
    if run.outcome.status == 124:
        return stage.skip(name, f"the run did not end in {seconds:.0f} s (40 s at most; LIMIT_FACTOR=2 gives the stage more)")
    stage.figure(f"{name}: it works", "yes" if run.is_done else "no")
    if run.is_done:
        stage.figure(f"{name}: losses differ by", relative(run.column("loss"), expected))
        stage.figure(f"{name}: seconds of a step", statistics.median(run.column("step_seconds")))
    else:
        stage.note(f"{name}: the run {run.outcome.why()}")


def first_gpu():
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


# ---- bandwidth

def bandwidth(stage, programs):
    """cuda_bench: the flat kernels and those of the cross-entropy beside a copy, with floors where there are some."""
    done = programs.run("cuda_bench", [programs.path("cuda_bench"), *(["1", "1"] if programs.is_fake else [])], stage.left(), on_gpu=True)
    rows = rows_of_bench(done.text)
    if done.status != 0:
        return stage.fail(f"cuda_bench {done.why()}")
    if not rows:
        return stage.fail("cuda_bench prints no table")
    stage.figure("rows of cuda_bench", len(rows))
    if programs.is_fake:
        return stage.skip("rates", NO_SPEED)
    for name, rate, share, least in rows:
        stage.figure(f"{name}: GB/s", rate)
        stage.figure(f"{name}: share of its bound", share, least=least)
    stage.note("pinned copies: the stage streaming has the pipeline's beside those of a plain loop in the stage probe")


def rows_of_bench(text):
    """Of each row of cuda_bench (name, ms, GB/s, share of a copy, share of what bounds it, and a floor of that share, or none): name, GB/s, share of
    what bounds it, floor."""
    rows = (re.match(r"(\S.*?)\s+[\d.]+\s+(\d+)\s+[\d.]+\s+([\d.]+)\s*([\d.]+)?(?: !)?\s*$", line) for line in text.splitlines())
    return [(row[1], int(row[2]), float(row[3]), float(row[4]) if row[4] else None) for row in rows if row]


# ---- first order

def median_seconds(run, warm_up):
    return statistics.median(run.column("step_seconds")[warm_up:])


def memory_ratio(stage, name, run):
    stage.figure(f"{name}: device memory, measured / planned", max(run.column("device_peak_bytes")) / run.plan["device_peak_bytes"], most=1.05)


def launch_gaps(stage, programs, batch, length, least):
    """Whether the host launches ahead of the GPU in a first-order step: marks on the stream of computation see gaps between visits, NVML those between
    kernels."""
    model, name = configs.MODEL_1B, f"1B, {batch} x {length} tokens"
    if programs.is_fake:
        model, name, batch, length, least = configs.SMALL_MODELS["gpt2"], "2 units", 2, configs.LENGTH, None
    if not stage.has_time(f"{name}: launch gaps", 8):
        return
    steps = 120 if batch == 1 else 12  # NVML's readings are of up to a second
    run = programs.train(f"gaps-{batch}-{length}", configs.first_order(programs.work, batch, length, steps, model, trace=True), "cuda", stage.left(), threads=8)
    if not run.is_done:
        return stage.fail(f"{name}, traced: the run {run.outcome.why()}")
    share = run.computing_share()
    if share is None:
        stage.fail(f"{name}: the trace does not tell of two steps")
    else:
        stage.figure(f"{name}: share of the time in which the GPU works, by marks", share, least=least)
    seen = run.column("gpu_busy")
    if seen:
        stage.figure(f"{name}: share of the time in which a kernel runs, of NVML", statistics.median(seen[len(seen) // 2:]), least=least)
    else:
        stage.skip(f"{name}: share of the time in which a kernel runs", "NVML does not answer")


def first_order(stage, programs):
    """The model of 1B parameters, 16 x 1024 tokens in bf16, beside PyTorch's eager mode."""
    if programs.is_fake:
        launch_gaps(stage, programs, 16, 1024, 0.95)
        return stage.skip("rates", NO_SPEED)
    batch, length, steps = 16, 1024, 12
    run = programs.train("first_order", configs.first_order(programs.work, batch, length, steps), "cuda", stage.left() - 20, threads=8)
    if not run.is_done:
        stage.fail(f"the run {run.outcome.why()}")
    else:
        seconds = median_seconds(run, 4)
        stage.figure("tokens/s", batch * length / seconds)
        stage.figure("operations/s", run.plan["flops"] / seconds)
        name = stage.earlier.get("probe", {}).get("GPU, driver, memory, capability", "")
        peak = next((rate for card, rate in BF16_PEAKS.items() if card in name), None)
        if peak:
            stage.figure("MFU, of the data sheet's dense bf16", run.plan["flops"] / seconds / peak)
        memory_ratio(stage, "1B", run)
        stage.figure("highest bytes of the device", int(max(run.column("device_peak_bytes"))))
    compare_with_eager(stage, programs, batch, length, seconds if run.is_done else None)
    launch_gaps(stage, programs, 16, 1024, 0.95)
    launch_gaps(stage, programs, 1, 256, 0.85)


def compare_with_eager(stage, programs, batch, length, seconds):
    if not stage.has_time("the peer (eager PyTorch)", 10):
        return
    peer, why = programs.python("peer_first_order", "peer_first_order.py", shape_arguments(batch, length), stage.left())
    if peer is None:
        return stage.skip("the peer (eager PyTorch)", why)
    stage.figure("peer: tokens/s", peer["tokens_per_second"])
    stage.figure("peer: seconds of the products alone", peer["product_seconds"])
    stage.figure("peer: highest bytes of its tensors", peer["peak_bytes"])
    if seconds is not None:
        stage.figure("tokens/s over the peer's", batch * length / seconds / peer["tokens_per_second"], least=1.1)
        stage.figure("a step over its products alone", seconds / peer["product_seconds"], most=1.45)


def shape_arguments(batch, length):
    shape = configs.SHAPE_1B
    return [f"--{name}={value}" for name, value in (("layers", shape["n_layer"]), ("width", shape["n_embd"]), ("heads", shape["n_head"]),
                                                    ("vocabulary", shape["vocab_size"]), ("batch", batch), ("length", length))]


# ---- zeroth order

def zeroth_order(stage, programs):
    """The model of 1B parameters by queries, over 2q pure forwards; what matters most comes first."""
    if programs.is_fake:
        return stage.skip("everything", NO_SPEED)
    sizes = {1024: (1, 1024), 8192: (8, 1024)}
    peers = {}
    if stage.has_time("the peers (pure forwards, a MeZO loop)", 15):
        found, why = programs.python("peer_zeroth_order", "peer_zeroth_order.py", [*shape_arguments(8, 1024), "--small", "1"], min(25, stage.left()))
        if found is None:
            stage.skip("the peers (pure forwards, a MeZO loop)", why)
        else:
            peers = found
            for name, value in found.items():
                stage.figure(f"peer: {name}", value)
    most = {(8192, "gaussian"): 1.15, (8192, "rademacher"): 1.10, (8192, "low_rank"): 1.05, (1024, "low_rank"): 1.10}
    cases = [(tokens, 8, kind) for tokens in (8192, 1024) for kind in ("gaussian", "rademacher", "low_rank")]
    cases += [(tokens, 1, kind) for tokens in (1024, 8192) for kind in ("gaussian", "rademacher", "low_rank")]
    for tokens, queries, kind in cases:
        name = f"{kind}, q = {queries}, {tokens} tokens"
        if not stage.has_time(name, 6):
            continue
        batch, length = sizes[tokens]
        run = programs.train(f"zo-{kind}-{queries}-{tokens}", configs.zeroth_order(programs.work, configs.MODEL_1B, batch, length, queries, kind, 5),
                             "cuda", stage.left(), threads=8)
        if not run.is_done:
            if run.outcome.status == 124:
                stage.skip(name, "the time of the stage was up")
            else:
                stage.fail(f"{name} {run.outcome.why()}")
            continue
        seconds = median_seconds(run, 2)
        stage.figure(f"{name}: seconds", seconds)
        memory_ratio(stage, name, run)
        forward = peers.get(f"seconds of a forward, {tokens} tokens")
        if forward:
            stage.figure(f"{name}: over 2q pure forwards", seconds / (2 * queries * forward), most=most.get((tokens, kind)) if queries == 8 else None)
        if queries == 8 and (loop := peers.get(f"seconds of a MeZO step, q = 1, {tokens} tokens")) and tokens == 1024 and kind == "gaussian":
            stage.figure(f"{name}: speed over a MeZO loop's", 8 * loop / seconds, least=2)
    stage.note("at 1,024 tokens gaussian and rademacher are bound by forwards and by what perturbs and updates: compare with the stage bandwidth")


# ---- streaming

def streaming(stage, programs):
    """Weights in pinned memory of the host: 1B by q = 8 and 1 at 256 tokens, and 7B."""
    probed = stage.earlier.get("probe", {})
    seconds = {}
    cases = [("1B", configs.MODEL_1B, configs.PARAMETERS_1B, 8), ("1B", configs.MODEL_1B, configs.PARAMETERS_1B, 1), ("7B", configs.MODEL_7B, configs.PARAMETERS_7B, 8)]
    length = 256
    if programs.is_fake:
        cases, length = [("2 units", configs.SMALL_MODELS["gpt2"], 0, 8)], configs.LENGTH
    for size, model, parameters, queries in cases:
        name = f"{size}, q = {queries}, {length} tokens"
        if not stage.has_time(name, 10):
            continue
        run = programs.train(f"streaming-{size}-{queries}", configs.zeroth_order(programs.work, model, 1, length, queries, "gaussian", 4, host=True), "cuda",
                             stage.left(), threads=8)
        if not run.is_done:
            stage.fail(f"{name} {run.outcome.why()}")
            continue
        seconds[size, queries] = median_seconds(run, 1)
        stage.figure(f"{name}: seconds", seconds[size, queries])
        memory_ratio(stage, name, run)
        rate = run.streaming_rate()
        if rate is None:
            stage.fail(f"{name}: the trace does not tell of one reading of each unit's weights a step")
        else:
            stage.figure(f"{name}: copies in the pipeline, GB/s", 1e-9 * rate)
        if programs.is_fake:
            stage.skip("rates", NO_SPEED)
            continue
        line, products = probed.get("pinned copy to the device, GB/s"), probed.get("bf16 products, TFLOP/s")
        if line and rate:
            stage.figure(f"{name}: copies in the pipeline over a plain loop's", 1e-9 * rate / line, least=0.9)
        if line and products:
            # A step brings the weights once, for the update of the step before and its own directions, and takes them back beside that.
            bound = max(2 * parameters / (1e9 * line), run.plan["flops"] / (1e12 * products))
            stage.figure(f"{name}: over max(one reading of the weights, operations)", seconds[size, queries] / bound, most=1.15 if size == "7B" else None)
        else:
            stage.skip(f"{name}: over a plain loop's copies, and over max(bytes, operations)", "the stage probe has no ceilings")
    if ("1B", 8) in seconds and ("1B", 1) in seconds:
        stage.figure("1B: q = 8 over q = 1", seconds["1B", 8] / seconds["1B", 1], most=2)
