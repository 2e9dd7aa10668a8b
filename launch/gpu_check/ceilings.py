"""What a GPU reaches at most, by PyTorch: copies within it and from and to pinned memory, products of matrices. Prints one JSON object."""
import json
import statistics

import torch


def seconds(work, rounds=7):
    """The median of several, by events."""
    times = []
    for i in range(rounds + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def main():
    n = 1 << 29
    one, other = torch.empty(n, dtype=torch.uint8, device="cuda"), torch.empty(n, dtype=torch.uint8, device="cuda")
    pinned = torch.zeros(n, dtype=torch.uint8, pin_memory=True)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    print(json.dumps({
        "PyTorch": torch.__version__,
        "copy within the device, GB/s": 2e-9 * n / seconds(lambda: other.copy_(one)),
        "pinned copy to the device, GB/s": 1e-9 * n / seconds(lambda: one.copy_(pinned, non_blocking=True)),
        "pinned copy from the device, GB/s": 1e-9 * n / seconds(lambda: pinned.copy_(one, non_blocking=True)),
        "bf16 products, TFLOP/s": 2e-12 * 8192**3 / seconds(lambda: a @ b),
    }))


main()
