"""Trains the same models with several scalers, from the same weights and on the same batches.

    python benches/compare.py towers trunk --units 1 1e3 1e5 --seeds 3
    python benches/compare.py resnet transformer

Prints a line of JSON for each run as it ends, to be kept with `>`, and the table of all runs at the end, to the standard
error stream.  Needs scikit-learn (for its digits) and, for `resnet`, torchvision.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import adaloss.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# How often accuracy is measured, in steps; and what counts as learnt, in % of the test's images.
EVERY, TARGET = 20, 90.0


@dataclass
class Batch:
    images: Tensor
    labels: Tensor
    quantity: Tensor


class Digits:
    """1437 images of digits to train, 360 to test; and a quantity, a smooth function of the pixels with variance 1."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
        mixing = torch.randn(64, 3, generator=torch.Generator().manual_seed(7)) / 8.0
        mixed = images.flatten(1) @ mixing
        quantity = torch.tanh(2.0 * mixed[:, 0]) + 2.0 * mixed[:, 1] * mixed[:, 2]
        quantity = (quantity - quantity.mean()) / quantity.std()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(100))
        parts = [
            Batch(images[part], torch.tensor(digits.target)[part], quantity[part]) for part in (order[:1437], order[1437:])
        ]
        self.train, self.test = parts

    def batches(self, seed: int, size: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(len(self.train.images), (size,), generator=generator)
            yield Batch(self.train.images[chosen], self.train.labels[chosen], self.train.quantity[chosen])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Tower(nn.Sequential):
    def __init__(self, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, width),
            Block(width),
            Block(width),
        )


class TwoLosses(nn.Module):
    """Classes, and a quantity in some unit: from a tower each, or from one trunk."""

    def __init__(self, is_shared: bool) -> None:
        super().__init__()
        self.first = Tower()
        self.second = None if is_shared else Tower()
        self.classes, self.quantity = nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        second = first if self.second is None else self.second(x)
        return self.classes(first), self.quantity(second)[:, 0].float()


class Transformer(nn.Module):
    """Rows of an image as a sequence; attention from linear layers and products of activations."""

    def __init__(self, width: int = 32, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, width), nn.Parameter(torch.zeros(8, width))
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.forward_blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.classes, self.heads = nn.Linear(width, 10), heads

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        h = self.embed(x[:, 0]) + self.position
        for attend, norm, out, block in zip(self.attend, self.norms, self.out, self.forward_blocks):
            q, k, v = attend(norm(h)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
            weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            h = block(h + out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)))
        return self.classes(h.mean(1)), None


class ResNet(nn.Module):
    """torchvision's ResNet with one block a stage, on images of 16 by 16 in three channels."""

    def __init__(self) -> None:
        from torchvision.models.resnet import BasicBlock
        from torchvision.models.resnet import ResNet as Base

        super().__init__()
        self.base = Base(BasicBlock, [1, 1, 1, 1], num_classes=10)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = F.interpolate(x, scale_factor=2.0).expand(-1, 3, -1, -1)
        return self.base(x), None


@dataclass(frozen=True)
class Task:
    make: Callable[[], nn.Module]
    steps: int
    batch: int
    rate: float = 1.0e-3
    has_quantity: bool = False


TASKS = {
    "towers": Task(lambda: TwoLosses(False), 200, 64, has_quantity=True),
    "trunk": Task(lambda: TwoLosses(True), 200, 64, has_quantity=True),
    "transformer": Task(Transformer, 300, 64, rate=3.0e-3),
    "resnet": Task(ResNet, 100, 32),
}


class Method:
    """How a step is made; this one in float32."""

    dtype: torch.dtype | None = None

    def __init__(self, model: nn.Module, losses: int) -> None:
        self.model = model
        self.backward_passes = 0
        self.skipped = 0

    def step(self, losses: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        sum(losses).backward()
        self.backward_passes += 1
        optimizer.step()


class BFloat16(Method):
    dtype = torch.bfloat16


class OneScale(Method):
    """torch.amp.GradScaler with its defaults."""

    dtype = torch.float16

    def __init__(self, model: nn.Module, losses: int) -> None:
        super().__init__(model, losses)
        self.scaler = self.make_scaler()

    def make_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu")

    def step(self, losses: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        self.scaler.scale(sum(losses)).backward()
        self.backward_passes += 1
        self.scaler.unscale_(optimizer)
        found = self.scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        self.skipped += any(value.item() > 0.0 for value in found.values())
        self.scaler.step(optimizer)
        self.scaler.update()


class OnePerLoss(Method):
    """A GradScaler and a backward pass for each loss; a step is made where all are finite."""

    dtype = torch.float16

    def __init__(self, model: nn.Module, losses: int) -> None:
        super().__init__(model, losses)
        self.scalers = [torch.amp.GradScaler("cpu") for _ in range(losses)]

    def step(self, losses: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        parameters = list(self.model.parameters())
        total: list[Tensor | None] = [None] * len(parameters)
        is_finite = True
        for index, (scaler, loss) in enumerate(zip(self.scalers, losses)):
            optimizer.zero_grad()
            scaler.scale(loss).backward(retain_graph=index + 1 < len(losses))
            self.backward_passes += 1
            scaler.unscale_(optimizer)
            found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
            is_finite &= not any(value.item() > 0.0 for value in found.values())
            for place, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    so_far = total[place]
                    total[place] = parameter.grad.clone() if so_far is None else so_far + parameter.grad
            scaler.update()
        for parameter, gradient in zip(parameters, total):
            parameter.grad = gradient
        if is_finite:
            optimizer.step()
        self.skipped += not is_finite


class OnePerLayer(OneScale):
    """This package's scaler."""

    def __init__(self, model: nn.Module, losses: int) -> None:
        super().__init__(model, losses)
        adaloss.torch.prepare(model)

    def make_scaler(self) -> torch.amp.GradScaler:
        return adaloss.torch.GradScaler("cpu")


METHODS: dict[str, type[Method]] = {
    "float32": Method,
    "bfloat16": BFloat16,
    "GradScaler": OneScale,
    "one per loss": OnePerLoss,
    "adaloss": OnePerLayer,
}


@dataclass
class Result:
    task: str
    unit: float
    method: str
    seed: int
    accuracy: float
    r2: float | None
    skipped: int
    #: The first step after which the target was reached; None where it was not.
    target_at: int | None
    backward_passes: int
    #: The median time of a step, in milliseconds.
    milliseconds: float


def evaluate(model: nn.Module, test: Batch) -> tuple[float, float | None]:
    model.eval()
    with torch.no_grad():
        logits, quantity = model(test.images)
    model.train()
    accuracy = 100.0 * (logits.argmax(1) == test.labels).float().mean().item()
    if quantity is None:
        return accuracy, None
    unexplained = ((quantity - test.quantity) ** 2).mean() / test.quantity.var(unbiased=False)
    return accuracy, 1.0 - unexplained.item()


def train(name: str, unit: float, method_name: str, seed: int, model: nn.Module, digits: Digits) -> Result:
    task = TASKS[name]
    method = METHODS[method_name](model, 2 if task.has_quantity else 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate)
    times, target_at = [], None
    batches = digits.batches(seed, task.batch)
    for step in range(1, task.steps + 1):
        batch = next(batches)
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=method.dtype or torch.bfloat16, enabled=method.dtype is not None):
            logits, quantity = model(batch.images)
            losses = [F.cross_entropy(logits.float(), batch.labels)]
            if quantity is not None:
                losses.append(F.mse_loss(quantity * unit, batch.quantity * unit))
        method.step(losses, optimizer)
        times.append(time.perf_counter() - began)
        if step % EVERY == 0 and target_at is None and evaluate(model, digits.test)[0] >= TARGET:
            target_at = step
    accuracy, r2 = evaluate(model, digits.test)
    return Result(
        name,
        unit,
        method_name,
        seed,
        round(accuracy, 2),
        None if r2 is None else round(r2, 4),
        method.skipped,
        target_at,
        method.backward_passes,
        round(1000.0 * statistics.median(times), 3),
    )


def table(results: list[Result]) -> str:
    """Returns a row for each task, unit and method: the seeds' accuracies, and medians."""
    lines = [
        "| task | unit | method | accuracy, each seed | r2 | skipped | 90 % after | backward passes | ms a step |",
        "|---|--:|---|---|---|---|---|--:|--:|",
    ]
    groups: dict[tuple[str, float, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.task, result.unit, result.method), []).append(result)
    for (task, unit, method), runs in groups.items():
        r2 = "-" if runs[0].r2 is None else " ".join(f"{run.r2:.3f}" for run in runs)
        lines.append(
            f"| {task} | {unit:g} | {method} | {' '.join(f'{run.accuracy:.1f}' for run in runs)} | {r2} "
            f"| {' '.join(str(run.skipped) for run in runs)} "
            f"| {' '.join('never' if run.target_at is None else str(run.target_at) for run in runs)} "
            f"| {runs[0].backward_passes} | {statistics.median(run.milliseconds for run in runs):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=TASKS, help="what to train")
    parser.add_argument("--units", nargs="+", type=float, default=[1.0, 1.0e3, 1.0e5], help="of the quantity")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--steps", type=int, help="instead of the task's own number")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; tensors are small here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    digits, results = Digits(), []
    for name in arguments.tasks:
        task = TASKS[name]
        if arguments.steps is not None:
            TASKS[name] = task = Task(task.make, arguments.steps, task.batch, task.rate, task.has_quantity)
        for unit in arguments.units if task.has_quantity else [1.0]:
            for seed in range(arguments.seeds):
                torch.manual_seed(seed)
                model = task.make()
                for method in arguments.methods:
                    if method == "one per loss" and not task.has_quantity:
                        continue
                    result = train(name, unit, method, seed, copy.deepcopy(model), digits)
                    results.append(result)
                    print(json.dumps(asdict(result)), flush=True)
    print(table(results), file=sys.stderr)


if __name__ == "__main__":
    main()
