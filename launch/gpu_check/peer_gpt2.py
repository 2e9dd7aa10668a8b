"""GPT-2 as a user of PyTorch would write it, for the peers of launch/gpu_check.sh."""
import argparse
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def arguments(more=()):
    parser = argparse.ArgumentParser()
    for name in ("layers", "width", "heads", "vocabulary", "batch", "length", *more):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(c, 2))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """The head shares the weight of the embedding."""

    def __init__(self, a):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(a.vocabulary, a.width), nn.Embedding(a.length, a.width)
        self.blocks = nn.ModuleList(Block(a.width, a.heads) for _ in range(a.layers))
        self.norm = nn.LayerNorm(a.width)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def batch_of(a, batch):
    drawn = torch.randint(0, a.vocabulary, (batch, a.length + 1), device=a.device)
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()


def median_seconds(a, work, rounds, warm_up):
    """Of one call, measured `rounds` times."""
    times = []
    finish = torch.cuda.synchronize if a.device == "cuda" else lambda: None
    for i in range(rounds + warm_up):
        finish()
        begin = time.perf_counter()
        work()
        finish()
        if i >= warm_up:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
