"""The peer of the stage first_order: eager PyTorch, autocast to bf16, fused AdamW. Also times the step's products of matrices alone. Prints one
JSON object. Runs on a processor too: --device cpu."""
import json

import torch

from peer_gpt2 import Gpt2, arguments, batch_of, median_seconds


def product_seconds(a):
    """Of every linear layer: the forward and the two products of the backward, each timed by itself."""
    rows, total = a.batch * a.length, 0.0
    for inputs, outputs, count in ((a.width, 3 * a.width, a.layers), (a.width, a.width, a.layers), (a.width, 4 * a.width, a.layers),
                                   (4 * a.width, a.width, a.layers), (a.width, a.vocabulary, 1)):
        x, w, y = (torch.randn(shape, device=a.device, dtype=torch.bfloat16) for shape in ((rows, inputs), (outputs, inputs), (rows, outputs)))
        for product in (lambda: x @ w.t(), lambda: y @ w, lambda: y.t() @ x):
            total += count * median_seconds(a, product, 5, 2)
    return total


def main():
    a = arguments()
    with torch.device(a.device):
        model = Gpt2(a)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens, targets = batch_of(a, a.batch)

    def step():
        with torch.autocast(a.device, dtype=torch.bfloat16):
            loss = model(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = median_seconds(a, step, 8, 3)
    parameters = sum(p.numel() for p in model.parameters())
    peak = torch.cuda.max_memory_allocated() if a.device == "cuda" else 0
    del model, optimizer
    print(json.dumps({"tokens_per_second": a.batch * a.length / seconds, "step_seconds": seconds, "parameters": parameters, "peak_bytes": peak,
                      "product_seconds": product_seconds(a)}))


main()
