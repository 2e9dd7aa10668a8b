#!/usr/bin/env python3
"""What a sweep gains over runs one after the other, and what it costs beside them.

usage: tests/launch/sweep_bench.py [PROGRAM]     PROGRAM: build/zerostep; needs two cores that nothing else uses, and about a minute

Twelve short runs of a small model: alone one after the other, as a sweep of one job, as a sweep of two. Prints
  two jobs        seconds of the runs one after the other, over those of the sweep of two jobs (1.8 is asked for)
  overhead        of a run in a sweep of one job, beside the run alone (0.3 s is asked for)
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

RUNS = 12
program = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/zerostep").resolve())
cores = sorted(os.sched_getaffinity(0))[:2]
if len(cores) < 2:
    sys.exit("two cores are needed")
os.sched_setaffinity(0, cores)


def timed(*arguments):
    begin = time.perf_counter()
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    (folder / "text.txt").write_text("".join(f"line {i * 7919 % 1000} of a text that is learnt\n" for i in range(4000)))
    base = {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
            "model": {"family": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4, "n_positions": 64},
            "data": {"train": str(folder / "text.txt"), "tokenizer": "byte", "sequence_length": 48}, "run": {"steps": 150}}
    (folder / "base.json").write_text(json.dumps(base))

    def sweep(name, jobs):
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"base": str(folder / "base.json"), "name": name, "output_dir": str(folder), "repeat": {"seed": list(range(RUNS))}}))
        return timed("sweep", str(file), "--jobs", str(jobs))

    timed("train", str(folder / "base.json"), "--set", "run.name=first", "--set", f"run.output_dir={folder}")  # fills the cache of tokens
    alone = sum(timed("train", str(folder / "base.json"), "--set", f"run.name=alone{seed}", "--set", f"run.output_dir={folder}", "--set", f"seed={seed}") for seed in range(RUNS))
    one, two = sweep("one", 1), sweep("two", 2)
    print(f"{RUNS} runs one after the other {alone:.2f} s; as a sweep of one job {one:.2f} s, of two {two:.2f} s")
    print(f"two jobs        {alone / two:.2f} x")
    print(f"overhead        {(one - alone) / RUNS:.3f} s a run")
