#!/usr/bin/env python3
"""How long the plan of a large job takes.

usage: tests/launch/plan_bench.py [PROGRAM]     PROGRAM: build/zerostep; one core, and about 10 seconds

A GPT-2 of 65.5 G parameters at stage 3 in bf16, planned for 8, 128 and 1024 ranks of 8 a host. Prints the seconds of the whole command, the
least of three calls: the first one of all measures a workspace, which the others find in the cache (10 s are asked for).
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

program = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/zerostep").resolve())

with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    (folder / "text.txt").write_text("a text that nobody reads\n")
    (folder / "run.json").write_text(json.dumps({
        "train_batch_size": 1024, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}, "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3}, "data": {"train": str(folder / "text.txt"), "tokenizer": "byte", "sequence_length": 2048},
        "model": {"family": "gpt2", "n_layer": 80, "n_embd": 8192, "n_head": 64, "n_positions": 2048, "vocab_size": 128256},
        "run": {"steps": 1, "device_memory": 1e15}}))
    print("   ranks   seconds")
    for ranks in (8, 128, 1024):
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            subprocess.run([program, "plan", str(folder / "run.json"), "--world", str(ranks), "--ranks-per-node", "8"], check=True,
                           stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - begin)
        print(f"{ranks:8}{min(seconds):10.2f}   (first call {seconds[0]:.2f})")
