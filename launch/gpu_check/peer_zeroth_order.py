"""The peers of the stage zeroth_order: pure forwards in bf16, and a loop as MeZO's, which perturbs in place and draws its noise again. Prints one
JSON object. --small: samples of the smaller size, beside --batch. Runs on a processor too: --device cpu."""
import json

import torch

from peer_gpt2 import Gpt2, arguments, batch_of, median_seconds


@torch.inference_mode()
def mezo_step(model, tokens, targets, epsilon=1e-3, rate=1e-6):
    """One direction."""
    parameters = list(model.parameters())

    def move(seed, scale):
        torch.manual_seed(seed)
        for p in parameters:
            p.add_(torch.randn_like(p), alpha=scale)

    move(1, epsilon)
    plus = model(tokens, targets)
    move(1, -2 * epsilon)
    minus = model(tokens, targets)
    move(1, epsilon)
    move(1, -rate * float(plus - minus) / (2 * epsilon))


def main():
    a = arguments(["small"])
    with torch.device(a.device):
        model = Gpt2(a).bfloat16().eval()
    found = {}
    for batch in (a.small, a.batch):
        tokens, targets = batch_of(a, batch)
        size = f"{batch * a.length} tokens"
        with torch.inference_mode():
            found[f"seconds of a forward, {size}"] = median_seconds(a, lambda: model(tokens, targets), 10, 3)
        found[f"seconds of a MeZO step, q = 1, {size}"] = median_seconds(a, lambda: mezo_step(model, tokens, targets), 4, 1)
    print(json.dumps(found))


main()
