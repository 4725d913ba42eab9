"""Watches three of torchvision's models in training, checks what is counted against PyTorch, and says what looking costs.

    python benches/watch_models.py --steps 30

Images are noise and weights are random, so that nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time

import adaloss.torch
import torch
import torchvision
from adaloss.torch._modules import kind_of
from torch import Tensor, nn

MODELS = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "squeezenet1_1": torchvision.models.squeezenet1_1,
}
SCALES = (-30, -20, -10, 0, 10, 16, 20, 30)


class Check:
    """Counts by PyTorch what the first look at each layer counts."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        self.scale = scale
        self.lost: dict[str, list[int]] = {}
        self.handles = [
            module.register_forward_hook(self.hook_of(name))
            for name, module in model.named_modules()
            if kind_of(module) is not None
        ]

    def hook_of(self, name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if inputs[0].requires_grad and name not in self.lost:
                output.register_hook(lambda gradient: self.count(name, module, inputs[0].detach(), gradient))

        return hook

    def count(self, name: str, module: nn.Module, x: Tensor, gradient: Tensor) -> None:
        weight = module.weight.detach().to(gradient.dtype).float()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            copy = x.float().requires_grad_()
            y = kind_of(module).forward(copy, weight, None)
            (exact,) = torch.autograd.grad(y, copy, gradient.float())
        true = exact / self.scale
        finite = true[true.isfinite()]
        self.lost[name] = [int((((finite * 2.0**k).half() == 0.0) & (finite != 0.0)).sum()) for k in SCALES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make(num_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype == torch.float16)

        def step(model=model, optimizer=optimizer, scaler=scaler) -> float:
            began = time.perf_counter()
            images, labels = torch.randn(arguments.batch, 3, 64, 64), torch.randint(0, 10, (arguments.batch,))
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                loss = nn.functional.cross_entropy(model(images).float(), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return time.perf_counter() - began

        step()
        check = Check(model, scaler.get_scale())
        seen = adaloss.torch.watch(model, scaler if scaler.is_enabled() else None)
        step()
        for handle in check.handles:
            handle.remove()
        counted = {layer.name: [layer.histograms["binary16"].underflow(k) for k in SCALES] for layer in seen.layers}
        elements = sum(layer.histograms["binary16"].elements for layer in seen.layers)
        differ = sum(abs(a - b) for layer in counted for a, b in zip(counted[layer], check.lost[layer]))
        # The first look at every layer is over: what is left is what a long run pays.
        seen._spent, seen._since = 0.0, time.perf_counter()
        for _ in range(arguments.steps):
            step()
        share = seen.time_share
        print(
            f"{name}: {len(counted)} layers, {elements} elements at {len(SCALES)} scales; PyTorch counts {differ} otherwise"
        )
        print(f"  {share:.2%} of the time of {arguments.steps} steps, {sum(layer.samples for layer in seen.layers)} looks")
        print(f"  {seen.advice()}")


if __name__ == "__main__":
    main()
