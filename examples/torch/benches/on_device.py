"""Checks on a GPU what the tests check on the CPU, and times it: for whoever has one.

    python benches/on_device.py                # CUDA
    python benches/on_device.py --device cpu   # the same checks, but for those of the stream

Each check prints a line; the exit status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import traceback
from collections.abc import Callable

import adaloss.torch
import overhead
import torch
from adaloss.torch import _products
from digits import TwoHeads
from torch import Tensor, nn
from torch.nn import functional as F

UNIT = 1.0e5


class Checks:
    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.model = TwoHeads(is_shared=False).to(device)
        self.images = torch.rand(64, 1, 8, 8, device=device)
        self.labels = torch.randint(0, 10, (64,), device=device)
        self.quantity = torch.randn(64, device=device)

    def loss(self, model: nn.Module, dtype: torch.dtype | None) -> Tensor:
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits, quantity = model(self.images)
            return F.cross_entropy(logits.float(), self.labels) + F.mse_loss(quantity * UNIT, self.quantity * UNIT)

    def worst(self, model: nn.Module, scale: float = 1.0) -> float:
        reference = copy.deepcopy(self.model)
        self.loss(reference, None).backward()
        pairs = zip(model.named_parameters(), reference.parameters())
        # A bias before a batch normalisation has no gradient but for rounding.
        errors = [
            ((p.grad / scale - q.grad).norm() / q.grad.norm()).item() for (name, p), q in pairs if not name.endswith("0.bias")
        ]
        return max(errors)

    def gradients(self) -> str:
        """Gradients are those of float32, in units in which no one scale serves both towers."""
        model, scaler = adaloss.torch.prepare(copy.deepcopy(self.model)), adaloss.torch.GradScaler(self.device.type)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(self.loss(model, torch.float16)).backward()
            scaler.step(optimizer)
            scaler.update()
        worst = self.worst(model)
        assert worst < 0.05, f"the worst gradient differs by {worst:.3g} of its norm"
        return f"the worst differs by {worst:.2e} of its norm; {scaler.report().overflowed or 'none'} overflowed"

    def formats(self) -> str:
        """Gradients in FP8 and in binary16 without subnormal numbers."""
        found = {}
        for format in ("e5m2", "e4m3", "binary16-flushing"):
            model = adaloss.torch.prepare(copy.deepcopy(self.model), format=format)
            self.loss(model, torch.float16).backward()
            found[format] = self.worst(model)
        assert found["e5m2"] < 0.4 and found["e4m3"] < 0.25 and found["binary16-flushing"] < 0.05, found
        return ", ".join(f"{format} {worst:.2e}" for format, worst in found.items())

    def products(self) -> str:
        """Products of binary16 with results in float32 are those of float32."""
        linear, x = nn.Linear(256, 256, device=self.device), torch.randn(128, 256, device=self.device).half()
        gradient, weight = torch.randn(128, 256, device=self.device).half(), linear.weight.detach().half()
        to_input, to_weight = _products._Linear().backward(gradient, x, weight, (True, True))
        exact = gradient.double() @ weight.double(), gradient.double().t() @ x.double()
        worst = max(((a.double() - b).norm() / b.norm()).item() for a, b in zip((to_input, to_weight), exact))
        assert to_input.dtype == torch.float32 and worst < 1.0e-5, worst
        return f"they differ by {worst:.1e} of their norm from float64"

    def stream(self) -> str:
        """Nothing waits for the device before the step."""
        if self.device.type != "cuda":
            return "only on CUDA"
        model, scaler = adaloss.torch.prepare(copy.deepcopy(self.model)), adaloss.torch.GradScaler("cuda")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for step in range(4):
            optimizer.zero_grad()
            # The first steps may allocate and choose kernels.
            with _no_waiting() if step > 1 else contextlib.nullcontext():
                scaler.scale(self.loss(model, torch.float16)).backward()
            scaler.step(optimizer)
            scaler.update()
        return "forward and backward pass without a synchronisation"

    def watching(self) -> str:
        """What is lost, with a scale for the whole model."""
        model, scaler = copy.deepcopy(self.model), torch.amp.GradScaler(self.device.type)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with adaloss.torch.watch(model, scaler, most_time=1.0) as seen:
            for _ in range(40):
                optimizer.zero_grad()
                scaler.scale(self.loss(model, torch.float16)).backward()
                scaler.step(optimizer)
                scaler.update()
        assert "no one scale serves all: it takes 2" in seen.advice(), seen.advice()
        return seen.advice()


@contextlib.contextmanager
def _no_waiting():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU: try --device cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"PyTorch {torch.__version__}, {name}, adaloss {adaloss.__version__}")
    torch.manual_seed(0)
    checks, failed = Checks(device), 0
    every: list[Callable[[], str]] = [checks.products, checks.gradients, checks.formats, checks.stream, checks.watching]
    for check in every:
        try:
            print(f"{check.__name__}: {check()}")
        except Exception:
            failed += 1
            print(f"{check.__name__}: FAILED\n{traceback.format_exc()}")
    sizes = ((16, 4, 32), (32, 4, 64)) if device.type == "cpu" else ((256, 12, 1024), (1024, 12, 4096))
    overhead.measure(device, 40, sizes)
    print(f"{len(every) - failed} of {len(every)} checks passed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
