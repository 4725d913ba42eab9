"""What a step costs with this package's scaler beside `torch.amp.GradScaler`: steps in turn, in one run.

    python benches/overhead.py
    python benches/overhead.py --device cuda

Prints medians and the median of the ratios of neighbouring steps, for small models, in which what is fixed counts most.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import adaloss.torch
import torch
from digits import Block
from torch import nn


def measure(device: torch.device, steps: int, sizes: tuple[tuple[int, int, int], ...]) -> None:
    """Prints a line for each width, number of blocks and number of rows."""
    for width, depth, batch in sizes:
        torch.manual_seed(0)
        blocks = (Block(width, growth=4) for _ in range(depth))
        base = nn.Sequential(nn.Linear(width, width), *blocks, nn.Linear(width, 10)).to(device)
        sides = []
        for make in (torch.amp.GradScaler, adaloss.torch.GradScaler):
            model = copy.deepcopy(base)
            if make is adaloss.torch.GradScaler:
                adaloss.torch.prepare(model)
            sides.append((model, torch.optim.SGD(model.parameters(), lr=1.0e-3), make(device.type)))
        times: list[list[float]] = [[], []]
        for _ in range(steps):
            x, y = torch.randn(batch, width, device=device), torch.randint(0, 10, (batch,), device=device)
            for side, (model, optimizer, scaler) in enumerate(sides):
                if device.type == "cuda":
                    torch.cuda.synchronize()
                began = time.perf_counter()
                optimizer.zero_grad()
                with torch.autocast(device.type, dtype=torch.float16):
                    loss = nn.functional.cross_entropy(model(x).float(), y)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                times[side].append(time.perf_counter() - began)
        theirs, ours = (1000.0 * statistics.median(side[5:]) for side in times)
        ratio = statistics.median(b / a for a, b in zip(*(side[5:] for side in times)))
        print(f"{depth} blocks of {width}, batch {batch}: {theirs:.2f} and {ours:.2f} ms a step, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(torch.device(arguments.device), arguments.steps, ((16, 4, 32), (32, 4, 64), (32, 12, 64), (64, 4, 64)))


if __name__ == "__main__":
    main()
