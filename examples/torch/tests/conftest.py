"""What the tests share."""

from __future__ import annotations

import adaloss.torch
import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads take longer than one for tensors as small as these, and are not needed for anything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(params=["torch", "adaloss"])
def scaler_class(request):
    """Each of the two scalers, of which what is promised of the first holds for the second."""
    return {"torch": torch.amp.GradScaler, "adaloss": adaloss.torch.GradScaler}[request.param]


class Block(nn.Module):
    """A residual block with a normalisation, which is computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class TwoTowers(nn.Module):
    """Classes and a quantity from images of 8 by 8, each from layers of its own.

    There is a fork and its sum in each block, and a layer that is used twice.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.batch_norm = nn.BatchNorm2d(8)
        self.flat = nn.Linear(512, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.shared = nn.Linear(width, width)
        self.classes = nn.Linear(width, 10)
        self.other_conv = nn.Conv2d(1, 8, 3, padding=1)
        self.other_flat = nn.Linear(512, width)
        self.quantity = nn.Linear(width, 1)

    def forward(self, x):
        h = self.flat(self.batch_norm(self.conv(x)).relu().flatten(1))
        h = self.shared(torch.relu(self.shared(self.blocks(h))))
        other = self.other_flat(torch.relu(self.other_conv(x)).flatten(1))
        return self.classes(h), self.quantity(torch.relu(other))[:, 0].float()


class Task:
    """A batch of random images, and the two losses; the quantity is in a unit in which it is about `unit`."""

    def __init__(self, unit: float = 1.0e5, batch: int = 64) -> None:
        self.unit = unit
        self.images = torch.rand(batch, 1, 8, 8)
        self.labels = torch.randint(0, 10, (batch,))
        self.quantity = torch.randn(batch)

    def losses(self, model: nn.Module, autocast: bool = True):
        with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
            logits, quantity = model(self.images)
            return (
                nn.functional.cross_entropy(logits.float(), self.labels),
                nn.functional.mse_loss(quantity * self.unit, self.quantity * self.unit),
            )


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], most: float = 0.05) -> None:
    """Asserts that each gradient differs by a small part of its norm."""
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        # A bias before a batch normalisation has no gradient but for rounding.
        if name in ("conv.bias", "0.bias"):
            continue
        difference = (gradient - expected[name]).norm() / expected[name].norm()
        assert difference < most, f"{name} differs by {difference:.3g} of its norm"
