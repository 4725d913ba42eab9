"""Tasks on scikit-learn's 1797 images of digits, 8 by 8: 1437 to train, 360 to test."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tasks import Optimizers, Score, Task, drawn
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Images:
    images: Tensor
    labels: Tensor
    #: A smooth function of the pixels, with variance 1.
    quantity: Tensor

    def at(self, chosen: Tensor) -> Images:
        return Images(self.images[chosen], self.labels[chosen], self.quantity[chosen])


@functools.cache
def digits() -> tuple[Images, Images]:
    """Returns what is to train and what is to test."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16.0
    mixing = torch.randn(64, 3, generator=torch.Generator().manual_seed(7)) / 8.0
    mixed = images.flatten(1) @ mixing
    quantity = torch.tanh(2.0 * mixed[:, 0]) + 2.0 * mixed[:, 1] * mixed[:, 2]
    quantity = (quantity - quantity.mean()) / quantity.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(100))
    everything = Images(images, torch.tensor(loaded.target), quantity)
    return everything.at(order[:1437]), everything.at(order[1437:])


def correct(logits: Tensor, labels: Tensor) -> float:
    """Returns how many in a hundred are classified rightly."""
    return 100.0 * (logits.argmax(1) == labels).float().mean().item()


class Digits(Task[Images]):
    """Classes of digits."""

    score, target = "% right", 90.0
    size = 64

    def batches(self, seed: int) -> Iterator[Images]:
        train, _ = digits()
        return (train.at(chosen) for chosen in drawn(len(train.images), self.size, seed))

    def compute_losses(self, model: nn.Module, batch: Images, unit: float) -> list[Tensor]:
        return [F.cross_entropy(model(batch.images).float(), batch.labels)]

    def evaluate(self, model: nn.Module) -> Score:
        _, test = digits()
        return Score(correct(model(test.images), test.labels))


class Block(nn.Module):
    def __init__(self, width: int, growth: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, growth * width), nn.Linear(growth * width, width)

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


class TwoHeads(nn.Module):
    def __init__(self, is_shared: bool) -> None:
        super().__init__()
        self.first = Tower()
        self.second = None if is_shared else Tower()
        self.classes, self.quantity = nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        second = first if self.second is None else self.second(x)
        return self.classes(first), self.quantity(second)[:, 0].float()


class TwoLosses(Digits):
    """Classes, and a quantity in some unit: from a tower each, or from one trunk."""

    steps, losses, has_unit = 200, 2, True

    def __init__(self, is_shared: bool) -> None:
        self.is_shared = is_shared

    def make(self) -> nn.Module:
        return TwoHeads(self.is_shared)

    def compute_losses(self, model: nn.Module, batch: Images, unit: float) -> list[Tensor]:
        logits, quantity = model(batch.images)
        return [F.cross_entropy(logits.float(), batch.labels), F.mse_loss(quantity * unit, batch.quantity * unit)]

    def evaluate(self, model: nn.Module) -> Score:
        _, test = digits()
        logits, quantity = model(test.images)
        unexplained = ((quantity - test.quantity) ** 2).mean() / test.quantity.var(unbiased=False)
        return Score(correct(logits, test.labels), 1.0 - unexplained.item())


class Attention(nn.Module):
    """Rows of an image as a sequence; attention from linear layers and products of activations."""

    def __init__(self, width: int = 32, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, width), nn.Parameter(torch.zeros(8, width))
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.forward_blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.classes, self.heads = nn.Linear(width, 10), heads

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x[:, 0]) + self.position
        for attend, norm, out, block in zip(self.attend, self.norms, self.out, self.forward_blocks):
            q, k, v = attend(norm(h)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
            weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            h = block(h + out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)))
        return self.classes(h.mean(1))


class Transformer(Digits):
    """A small transformer that reads an image as eight rows."""

    steps = 300

    def make(self) -> nn.Module:
        return Attention()

    def optimizer(self, model: nn.Module, steps: int) -> Optimizers:
        return torch.optim.Adam(model.parameters(), lr=3.0e-3), lambda: None


class Coding(nn.Module):
    """The network of PyTorch's example `vae`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21, self.fc22 = nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.fc1(x).relu()
        mean, log_variance = self.fc21(h).float(), self.fc22(h).float()
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        code = mean + noise * (0.5 * log_variance).exp()
        return self.fc4(self.fc3(code).relu()).float(), mean, log_variance


class Autoencoder(Digits):
    """PyTorch's example `vae` as published (github.com/pytorch/examples), on these digits at 28 by 28.

    Two losses that are summed over the batch and all pixels, Adam at 1e-3, batches of 128.  Its decoder ends in a sigmoid and
    `binary_cross_entropy`; here that is one function, since autocast refuses the latter.
    """

    score, target, is_less_better = "nats an image", 300.0, True
    steps, losses, size = 300, 2, 128

    def make(self) -> nn.Module:
        return Coding()

    def compute_losses(self, model: nn.Module, batch: Images, unit: float) -> list[Tensor]:
        pixels = F.interpolate(batch.images, size=28, mode="bilinear").flatten(1)
        logits, mean, log_variance = model(pixels)
        rebuilt = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum")
        divergence = -0.5 * (1.0 + log_variance - mean**2 - log_variance.exp()).sum()
        return [rebuilt, divergence]

    def evaluate(self, model: nn.Module) -> Score:
        _, test = digits()
        return Score(sum(self.compute_losses(model, test, 1.0)).item() / len(test.images))
