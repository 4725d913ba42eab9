"""What is trained to compare scalers: a task has models, batches, losses, and a score on what is kept for the test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
Optimizers = tuple[torch.optim.Optimizer, Callable[[], None]]


@dataclass(frozen=True)
class Score:
    """How good a model is on the test's data."""

    value: float
    #: How much of a quantity's variance it explains, where it has one to find.
    r2: float | None = None


class Task(ABC, Generic[Batch]):
    """A model and its data.  Whoever makes one sets what follows."""

    #: What the score is, and the score that counts as learnt.
    score: str
    target: float
    is_less_better = False
    steps: int
    #: How many losses it has, and whether one of them is in a unit that can be chosen.
    losses = 1
    has_unit = False

    @abstractmethod
    def make(self) -> nn.Module:
        """Returns a new model."""

    @abstractmethod
    def batches(self, seed: int) -> Iterator[Batch]:
        """Returns batches without end, which are the same for the same seed."""

    @abstractmethod
    def compute_losses(self, model: nn.Module, batch: Batch, unit: float) -> list[Tensor]:
        """Returns the losses of a batch; called under autocast."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Score:
        """Returns the score of a model that is in evaluation mode; called without gradients, in float32."""

    def optimizer(self, model: nn.Module, steps: int) -> Optimizers:
        """Returns an optimizer, and what is to be called after each of its steps."""
        return torch.optim.Adam(model.parameters(), lr=1.0e-3), lambda: None

    def is_learnt(self, score: Score) -> bool:
        return score.value <= self.target if self.is_less_better else score.value >= self.target


def drawn(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Returns places among `count` at random, so many at a time."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randint(count, (size,), generator=generator)


AnyTask = Task[Any]
