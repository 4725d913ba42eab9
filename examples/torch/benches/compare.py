"""Trains the same models with several scalers, from the same weights and on the same batches.

    python benches/compare.py towers trunk --units 1 1e3 1e5 --seeds 3
    python benches/compare.py resnet transformer detection segmentation vae

Prints a line of JSON for each run as it ends, to be kept with `>`, and the table of all runs at the end, to the standard
error stream; `--table FILE...` prints the table of runs that were kept.  Needs scikit-learn (for its digits) and, for
`resnet`, `detection` and `segmentation`, torchvision.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import adaloss.torch
import torch
from digits import Autoencoder, Transformer, TwoLosses
from scenes import Detection, ResNet, Segmentation
from tasks import AnyTask, Score
from torch import Tensor, nn

# How often the score is computed, in steps.
EVERY = 20

TASKS: dict[str, AnyTask] = {
    "towers": TwoLosses(is_shared=False),
    "trunk": TwoLosses(is_shared=True),
    "transformer": Transformer(),
    "vae": Autoencoder(),
    "resnet": ResNet(),
    "detection": Detection(),
    "segmentation": Segmentation(),
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
    score: float
    r2: float | None
    skipped: int
    #: The first step after which the target was reached; None where it was not.
    target_at: int | None
    backward_passes: int
    #: The median time of a step, in milliseconds.
    milliseconds: float


def evaluate(task: AnyTask, model: nn.Module) -> Score:
    model.eval()
    with torch.no_grad():
        score = task.evaluate(model)
    model.train()
    return score


def train(name: str, unit: float, method_name: str, seed: int, model: nn.Module, steps: int | None) -> Result:
    task = TASKS[name]
    steps = steps or task.steps
    torch.manual_seed(seed)  # For dropout and other noise, which are the same for each method.
    method = METHODS[method_name](model, task.losses)
    optimizer, after_step = task.optimizer(model, steps)
    times, target_at = [], None
    batches = task.batches(seed)
    for step in range(1, steps + 1):
        batch = next(batches)
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=method.dtype or torch.bfloat16, enabled=method.dtype is not None):
            losses = task.compute_losses(model, batch, unit)
        method.step(losses, optimizer)
        after_step()
        times.append(time.perf_counter() - began)
        if step % EVERY == 0 and target_at is None and task.is_learnt(evaluate(task, model)):
            target_at = step
    score = evaluate(task, model)
    return Result(
        name,
        unit,
        method_name,
        seed,
        round(score.value, 2),
        None if score.r2 is None else round(score.r2, 4),
        method.skipped,
        target_at,
        method.backward_passes,
        round(1000.0 * statistics.median(times), 3),
    )


def table(results: list[Result], has_times: bool) -> str:
    """Returns a row for each task, unit and method: the seeds' scores, and medians."""
    last, rule = (" ms a step |", "--:|") if has_times else ("", "")
    lines = [
        f"| task | unit | method | score, each seed | r2 | skipped | target after | backward passes |{last}",
        f"|---|--:|---|---|---|---|---|--:|{rule}",
    ]
    groups: dict[tuple[str, float, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.task, result.unit, result.method), []).append(result)
    for (task, unit, method), runs in groups.items():
        cells = [
            task,
            f"{unit:g}",
            method,
            " ".join(f"{run.score:.1f}" for run in runs),
            "-" if runs[0].r2 is None else " ".join(f"{run.r2:.3f}" for run in runs),
            " ".join(str(run.skipped) for run in runs),
            " ".join("never" if run.target_at is None else str(run.target_at) for run in runs),
            str(runs[0].backward_passes),
        ]
        if has_times:
            cells.append(f"{statistics.median(run.milliseconds for run in runs):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def task_name(text: str) -> str:
    if text not in TASKS:
        raise argparse.ArgumentTypeError(f"there is no task {text!r}: {', '.join(TASKS)}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", type=task_name, metavar="TASK", help=f"what to train: {', '.join(TASKS)}")
    parser.add_argument("--units", nargs="+", type=float, default=[1.0, 1.0e3, 1.0e5], help="of the quantity")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--steps", type=int, help="instead of the task's own number")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; tensors are small here")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="print the table of runs that were kept")
    arguments = parser.parse_args()
    if arguments.table:
        lines = [line for path in arguments.table for line in path.read_text().splitlines()]
        print(table([Result(**json.loads(line)) for line in lines], has_times=False))
        return
    if not arguments.tasks:
        parser.error("no task is named")
    torch.set_num_threads(arguments.threads)
    results = []
    for name in arguments.tasks:
        task = TASKS[name]
        for unit in arguments.units if task.has_unit else [1.0]:
            for seed in range(arguments.seeds):
                torch.manual_seed(seed)
                model = task.make()
                for method in arguments.methods:
                    if method == "one per loss" and task.losses == 1:
                        continue
                    result = train(name, unit, method, seed, copy.deepcopy(model), arguments.steps)
                    results.append(result)
                    print(json.dumps(asdict(result)), flush=True)
    print(table(results, has_times=True), file=sys.stderr)


if __name__ == "__main__":
    main()
