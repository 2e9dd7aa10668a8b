"""Fine-tuning a BERT classifier: 2 ranks at stage 3 against twice one plain PyTorch process with one thread, on the same padded batches: those of the ranks,
as the ranks have them, and whole global batches, which are twice as large. Needs torch and transformers, a BERT directory (launch/setup.sh brings MiniLM)
and a table of labelled texts.

  python tests/launch/classification_bench.py build/zerostep configs/sst2-minilm-fo.json train.tsv [--steps 40] [--rounds 3]
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess
import tempfile
import time

import torch
import transformers

WARM = 5


def padded(samples, labels):
    longest = max(map(len, samples))
    tokens = torch.tensor([s + [0] * (longest - len(s)) for s in samples])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in samples])
    return tokens, mask, torch.tensor(labels).flatten()


def batches_of(binary, config, settings, steps):
    """For each step: the whole batch, and the halves of the two ranks."""
    out = subprocess.run([binary, "inspect", "batches", config, *settings, "--steps", str(steps)], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        batch = json.loads(line)
        samples, labels = batch["samples"], batch["labels"]
        half = len(samples) // 2
        yield [padded(samples, labels)], [padded(samples[:half], labels[:half]), padded(samples[half:], labels[half:])]


class MeanClassifier(torch.nn.Module):
    def __init__(self, directory):
        super().__init__()
        self.bert = transformers.BertModel.from_pretrained(directory, add_pooling_layer=False, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
        self.classifier = torch.nn.Linear(self.bert.config.hidden_size, 2)
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, tokens, mask):
        hidden = self.bert(tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(2).to(hidden.dtype)
        return self.classifier(self.dropout((hidden * weights).sum(1) / weights.sum(1)))


def plain_seconds(directory, batches):
    torch.set_num_threads(1)
    model = MeanClassifier(directory).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    seconds = []
    for parts in batches:
        start = time.perf_counter()
        for tokens, mask, labels in parts:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(tokens, mask), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return sum(seconds[WARM:])


def our_seconds(binary, config, settings, steps, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2", binary, "train", config, "--overwrite", *settings,
               "--set", f"run.steps={steps}", "--set", "run.epochs=null", "--set", "run.name=bench", "--set", f"run.output_dir={folder}"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    with open(pathlib.Path(folder) / "bench" / "metrics.csv") as file:
        seconds = [float(row["step_seconds"]) for row in csv.DictReader(file)]
    return sum(seconds[WARM:steps])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("config")
    parser.add_argument("train")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    settings = ["--set", f"data.train={a.train}", "--set", "data.eval=[]", "--set", "run.eval_interval=0", "--set", "run.checkpoint_interval=0"]
    directory = json.loads(subprocess.run([a.binary, "config", a.config, "--json", *settings], check=True, capture_output=True, text=True).stdout)["model"]["path"]
    batches = list(batches_of(a.binary, a.config, settings, a.steps))
    samples = sum(len(whole[0][2]) for whole, _ in batches[WARM:])
    of_ranks, of_whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(a.rounds):
            halves = plain_seconds(directory, [h for _, h in batches])
            ours = our_seconds(a.binary, a.config, settings, a.steps, folder)
            whole = plain_seconds(directory, [w for w, _ in batches])
            of_ranks.append(halves / ours / 2)
            of_whole.append(whole / ours / 2)
            print(f"samples/s: PyTorch, 1 process {samples / halves:6.1f}, on whole batches {samples / whole:6.1f}; 2 ranks {samples / ours:6.1f}", flush=True)
    print(f"of twice one PyTorch process: {sorted(of_ranks)[len(of_ranks) // 2]:.2f} on the ranks' batches (reach 0.9), "
          f"{sorted(of_whole)[len(of_whole) // 2]:.2f} on whole batches")


main()
