"""Rates and times of steps, beside a copy, PyTorch and what bounds them: the stages bandwidth, first_order, zeroth_order and streaming."""
import re
import statistics

import configs
from programs import NO_SPEED

BF16_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}  # dense, of the data sheets, operations a second


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
    batch, length = configs.FIRST_ORDER["batch"], configs.FIRST_ORDER["length"]
    run = programs.train("first_order", configs.first_order(programs.work, **configs.FIRST_ORDER), "cuda", stage.left() - 20, threads=8)
    if not run.is_done:
        stage.fail(f"the run {run.outcome.why()}")
    else:
        seconds = median_seconds(run, 4)
        stage.figure("milliseconds of a step", 1e3 * seconds)
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
