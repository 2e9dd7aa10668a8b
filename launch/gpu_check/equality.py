"""Losses, gradients and scalars of the GPU against those of the processor, on one rank and on several: the stages equality and ranks."""
import math
import os
import re
import statistics

import configs


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
