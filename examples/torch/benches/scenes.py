"""Generated pictures: digits in colour on backgrounds, classified as CIFAR's are; and scenes of shapes, found and segmented.

Networks are torchvision's.  Where a network of full size would take hours in PyTorch's binary16 on a CPU, its features are
computed by a small one, and losses, heads, anchors and schedule stay torchvision's.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from digits import Digits, Images, correct, digits
from tasks import Optimizers, Score, Task, drawn
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 96
CLASSES = ("disc", "square", "triangle")


def backgrounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Returns pictures of smooth colours and some noise."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return (0.5 * smooth + 0.05 * torch.randn(count, 3, size, size, generator=generator)).clamp(0.0, 1.0)


@functools.cache
def coloured_digits() -> tuple[Images, Images]:
    """Returns 32 by 32 pictures of the digits, at some place, in some size and colour: to train and to test."""
    generator = torch.Generator().manual_seed(11)
    parts = []
    for part, copies in zip(digits(), (2, 1)):
        images, labels = part.images.repeat(copies, 1, 1, 1), part.labels.repeat(copies)
        pictures = backgrounds(len(images), 32, generator)
        for picture, image in zip(pictures, images):
            side = int(torch.randint(24, 31, (), generator=generator))
            top, left = torch.randint(32 - side + 1, (2,), generator=generator).tolist()
            mask = F.interpolate(image[None], size=side, mode="bilinear")[0]
            colour = torch.rand(3, 1, 1, generator=generator) * 0.5 + 0.5
            place = picture[:, top : top + side, left : left + side]
            place += mask * (colour - place)
        parts.append(Images((pictures - 0.4) / 0.25, labels, torch.zeros(len(labels))))
    return parts[0], parts[1]


class ResNet(Digits):
    """torchvision's ResNet-18 on the coloured digits."""

    steps, size, target = 120, 32, 75.0

    def make(self) -> nn.Module:
        from torchvision.models import resnet18

        return resnet18(num_classes=10)

    def batches(self, seed: int) -> Iterator[Images]:
        train, _ = coloured_digits()
        return (train.at(chosen) for chosen in drawn(len(train.images), self.size, seed))

    def evaluate(self, model: nn.Module) -> Score:
        _, test = coloured_digits()
        return Score(correct(model(test.images), test.labels))


@dataclass
class Scene:
    image: Tensor
    #: A class for each pixel, 0 for the background.
    mask: Tensor
    #: Boxes as (left, top, right, bottom), and their classes, from 1.
    boxes: Tensor
    labels: Tensor


def shape(kind: int, side: int) -> Tensor:
    """Returns a mask of a shape that fills a square."""
    at = (torch.arange(side) + 0.5) / side * 2.0 - 1.0
    y, x = at[:, None], at[None, :]
    if kind == 0:
        return x**2 + y**2 <= 1.0
    if kind == 1:
        return (x.abs() <= 1.0) & (y.abs() <= 1.0)
    return x.abs() <= (y + 1.0) / 2.0


def scene(generator: torch.Generator) -> Scene:
    """Returns a scene of one to three shapes that do not touch."""
    image, mask = backgrounds(1, SIZE, generator)[0], torch.zeros(SIZE, SIZE, dtype=torch.long)
    boxes, labels = [], []
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        side = int(torch.randint(16, 41, (), generator=generator))
        left, top = torch.randint(SIZE - side + 1, (2,), generator=generator).tolist()
        kind = int(torch.randint(len(CLASSES), (), generator=generator))
        place = (slice(top, top + side), slice(left, left + side))
        if mask[place].any():
            continue
        of = shape(kind, side)
        # Each class is brighter in one colour than in the others, as far as it goes.
        colour = 0.3 + 0.5 * torch.rand(3, 1, generator=generator)
        colour[kind] += 0.2
        image[:, place[0], place[1]][:, of] = colour
        mask[place][of] = kind + 1
        boxes.append([left, top, left + side, top + side])
        labels.append(kind + 1)
    return Scene(image, mask, torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels))


@functools.cache
def scenes() -> tuple[list[Scene], list[Scene]]:
    """Returns 800 scenes to train and 200 to test."""
    generator = torch.Generator().manual_seed(12)
    every = [scene(generator) for _ in range(1000)]
    return every[:800], every[800:]


class Scenes(Task[list[Scene]]):
    """What follows is of scenes."""

    size = 8

    def batches(self, seed: int) -> Iterator[list[Scene]]:
        train, _ = scenes()
        return ([train[index] for index in chosen.tolist()] for chosen in drawn(len(train), self.size, seed))


class Features(nn.Module):
    """A small network of convolutions; returns what its last stages say, `returned` of them."""

    def __init__(self, widths: tuple[int, ...], returned: int, *, is_normalised: bool) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            norm = [nn.BatchNorm2d(outputs)] if is_normalised else []
            return [nn.Conv2d(inputs, outputs, 3, stride, 1), *norm, nn.ReLU()]

        pairs = zip((3, *widths[:-1]), widths)
        self.stages = nn.ModuleList(nn.Sequential(*layer(a, b, 1), *layer(b, b, 2)) for a, b in pairs)
        self.returned = returned
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return OrderedDict((str(index), of) for index, of in enumerate(found[-self.returned :]))


class Detection(Scenes):
    """torchvision's SSD, with its anchors, losses and hard negative mining, on features from a small network."""

    score, target = "mAP at 0.5, %", 75.0
    steps, losses = 240, 2

    def make(self) -> nn.Module:
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
        from torchvision.models.detection.ssd import SSD

        anchors = DefaultBoxGenerator([[2], [2], [2]], scales=[0.2, 0.3, 0.45, 0.6])
        features = Features((8, 16, 32, 48, 48), 3, is_normalised=False)  # As VGG, which SSD has.
        return SSD(features, anchors, (SIZE, SIZE), len(CLASSES) + 1, image_mean=[0.4] * 3, image_std=[0.25] * 3)

    def compute_losses(self, model: nn.Module, batch: list[Scene], unit: float) -> list[Tensor]:
        targets = [{"boxes": scene.boxes, "labels": scene.labels} for scene in batch]
        return list(model([scene.image for scene in batch], targets).values())

    def evaluate(self, model: nn.Module) -> Score:
        _, test = scenes()
        found = model([scene.image for scene in test])
        of_classes = [average_precision(found, test, label) for label in range(1, len(CLASSES) + 1)]
        return Score(100.0 * sum(of_classes) / len(of_classes))


def average_precision(found: list[dict[str, Tensor]], truth: list[Scene], label: int) -> float:
    """Returns the area under precision over recall of a class, as Pascal VOC does since 2010: a box is right where it is the
    best yet of a true one and overlaps it by half."""
    from torchvision.ops import box_iou

    candidates: list[tuple[float, int, Tensor]] = []
    for index, of in enumerate(found):
        chosen = of["labels"] == label
        candidates += [(score.item(), index, box) for score, box in zip(of["scores"][chosen], of["boxes"][chosen])]
    if not candidates:
        return 0.0
    wanted = [scene.boxes[scene.labels == label] for scene in truth]
    taken = [torch.zeros(len(boxes), dtype=torch.bool) for boxes in wanted]
    right = torch.zeros(len(candidates))
    for place, (_, index, box) in enumerate(sorted(candidates, key=lambda of: -of[0])):
        if len(wanted[index]) == 0:
            continue
        overlap, best = box_iou(box[None], wanted[index])[0].max(0)
        if overlap >= 0.5 and not taken[index][best]:
            taken[index][best], right[place] = True, 1.0
    hits = right.cumsum(0)
    recall = hits / sum(len(boxes) for boxes in wanted)
    precision = hits / torch.arange(1, len(candidates) + 1)
    # Each recall has the best precision that is reached at it or beyond.
    best = precision.flip(0).cummax(0).values.flip(0)
    return float((best * torch.diff(recall, prepend=torch.zeros(1))).sum())


class Segmentation(Scenes):
    """torchvision's reference recipe for segmentation: FCN with an auxiliary loss of half the weight.

    As references/segmentation/train.py: SGD at 0.02 with momentum 0.9, weight decay 1e-4, ten times the rate for the
    auxiliary head, a rate that falls by a power of 0.9, batches of 8.  Its features are a ResNet-50's, where these are a
    small network's.
    """

    score, target = "mIoU, %", 40.0
    steps, losses = 600, 2

    def make(self) -> nn.Module:
        from torchvision.models.segmentation.fcn import FCN, FCNHead

        features = Features((8, 16, 32, 64), 2, is_normalised=True)
        classes = len(CLASSES) + 1
        return FCN(Renamed(features, ("aux", "out")), FCNHead(64, classes), FCNHead(32, classes))

    def optimizer(self, model: nn.Module, steps: int) -> Optimizers:
        auxiliary = list(model.aux_classifier.parameters())
        others = [p for part in (model.backbone, model.classifier) for p in part.parameters()]
        groups = [{"params": others}, {"params": auxiliary, "lr": 10.0 * 0.02}]
        optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=1.0e-4)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
        return optimizer, schedule.step

    def compute_losses(self, model: nn.Module, batch: list[Scene], unit: float) -> list[Tensor]:
        images, masks = stacked(batch)
        found = model(images)
        return [F.cross_entropy(found["out"].float(), masks), 0.5 * F.cross_entropy(found["aux"].float(), masks)]

    def evaluate(self, model: nn.Module) -> Score:
        images, masks = stacked(scenes()[1])
        found = model(images)["out"].argmax(1)
        shares = []
        for label in range(len(CLASSES) + 1):
            a, b = found == label, masks == label
            shares.append(((a & b).sum() / (a | b).sum()).item())
        return Score(100.0 * sum(shares) / len(shares))


class Renamed(nn.Module):
    """Features by other names."""

    def __init__(self, features: Features, names: tuple[str, ...]) -> None:
        super().__init__()
        self.features, self.names = features, names

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(zip(self.names, self.features(x).values()))


def stacked(batch: list[Scene]) -> tuple[Tensor, Tensor]:
    images = torch.stack([scene.image for scene in batch])
    return (images - 0.4) / 0.25, torch.stack([scene.mask for scene in batch])
