#!/usr/bin/env python3
"""How long `zerostep data show` and `check` take over a large corpus, and how much memory.

usage: tests/launch/datasets_bench.py [PROGRAM [MEGABYTES]]     PROGRAM: build/zerostep, MEGABYTES: 1000; needs three times that on the disk

A corpus of made-up documents (words by Zipf's law, 200 to 3,000 characters each) as .jsonl, and the same documents as `data merge` writes
them to .parquet. For each file and command: seconds, megabytes a second, the most resident memory (with the pages of the mapped file, which
the system takes back when it wants them), and over the time that reading the file through a pipe takes (30 s of a gigabyte are asked for).
`check` also runs against an evaluation set of 2,000 documents that are not of the corpus.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

program = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/zerostep").resolve())
megabytes = int(sys.argv[2]) if len(sys.argv) > 2 else 1000


def documents(rng, words, weights):
    """Documents without end."""
    stock = rng.choices(words, cum_weights=weights, k=1 << 20)
    while True:
        size, begin = rng.randrange(35, 500), rng.randrange(len(stock) - 500)
        yield " ".join(stock[begin:begin + size]) + f" {rng.getrandbits(40):x}"


def timed(*command):
    """Seconds and the most resident memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, use = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} has failed")
    return time.perf_counter() - begin, use.ru_maxrss / 1000


with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
    folder = pathlib.Path(folder)
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 12))) for _ in range(50000)]
    weights, total = [], 0.0
    for rank in range(len(words)):
        total += 1 / (rank + 1)
        weights.append(total)
    source = documents(rng, words, weights)
    corpus, held_out, table = folder / "corpus.jsonl", folder / "held_out.jsonl", folder / "corpus.parquet"
    with open(corpus, "w") as out:
        while out.tell() < megabytes * 1_000_000:
            out.writelines(json.dumps({"text": next(source)}) + "\n" for _ in range(1000))
    with open(held_out, "w") as out:
        out.writelines(json.dumps({"text": text}) + "\n" for text, _ in zip(documents(random.Random(8), words, weights), range(2000)))
    timed(program, "data", "merge", str(table), str(corpus))
    print(f"{'file':<16}{'command':<34}{'seconds':>9}{'MB/s':>9}{'MB resident':>13}{'over reading':>14}")
    for file in (corpus, table):
        size = file.stat().st_size / 1e6
        reading = min(timed("sh", "-c", f"cat '{file}' | cat > /dev/null")[0] for _ in range(3))
        for command in (["show"], ["check"], ["check", "--against", str(held_out)]):
            seconds, resident = timed(program, "data", command[0], str(file), *command[1:])
            shown = " ".join(part if "/" not in part else pathlib.Path(part).name for part in command)
            print(f"{file.name:<16}{shown:<34}{seconds:9.1f}{size / seconds:9.0f}{resident:13.0f}{seconds / reading:14.1f}", flush=True)
