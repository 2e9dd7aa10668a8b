#!/usr/bin/env python3
"""Whether a run on the processor starts as fast with libzerostep_cuda.so beside the program as without: start_bench.py BUILD_DIR [REPETITIONS]. Runs one step
of a tiny model with each in turn, and prints medians and their ratio; "auto" also asks whether a GPU answers."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

build, repetitions = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15
with tempfile.TemporaryDirectory() as work:
    places = {}
    for name in ("without", "beside"):
        places[name] = os.path.join(work, name)
        os.mkdir(places[name])
        for file in os.listdir(build):
            if file == "zerostep" or (file.startswith("libzerostep_") and file.endswith(".so") and (name == "beside" or "cuda" not in file)):
                shutil.copy(os.path.join(build, file), places[name])
    with open(os.path.join(work, "text.txt"), "w") as file:
        file.write("some words to learn from, again and again. " * 100)
    with open(os.path.join(work, "run.json"), "w") as file:
        json.dump({"train_batch_size": 1, "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
                   "model": {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 1, "n_positions": 16, "vocab_size": 257},
                   "data": {"train": "text.txt", "tokenizer": "byte", "sequence_length": 16}, "run": {"name": "start", "steps": 1}}, file)
    for device in ("cpu", "auto"):
        seconds = {name: [] for name in places}
        for _ in range(repetitions + 1):
            for name, place in places.items():
                start = time.perf_counter()
                subprocess.run([os.path.join(place, "zerostep"), "train", "run.json", "--overwrite", "--device", device], cwd=work, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - start)
        beside, without = (statistics.median(seconds[name][1:]) for name in ("beside", "without"))
        print(f"--device {device}: {1e3 * beside:.0f} ms with the library beside the program, {1e3 * without:.0f} ms without: {beside / without:.3f}")
