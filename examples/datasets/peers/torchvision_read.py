"""Passes over training images by torchvision and PyTorch's DataLoader: what `--bench read` is compared with.

python torchvision_read.py imagenet|voc FOLDER WORKERS BATCH

Says what it is in one line. Then does one pass for each line that it reads, and answers with images and seconds. Workers are started
once, before the first pass, which is not to be counted.
"""

import sys
import time
import warnings

import torch
import torchvision
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

warnings.filterwarnings("ignore")


def imagenet(folder):
    """As in references/classification of torchvision, with its means and deviations."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return datasets.ImageFolder(f"{folder}/train", transform), None


def voc(folder):
    """As the preset "ssd" in references/detection of torchvision, resized to the 300 x 300 that its network would do."""
    transform = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill={tv_tensors.Image: (123, 117, 104), "others": 0}),
            v2.RandomIoUCrop(),
            v2.Resize((300, 300), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(labels_getter=lambda sample: sample[1]["labels"]),
            v2.ToDtype(torch.float, scale=False),
            v2.Normalize((123.0, 117.0, 104.0), (1.0, 1.0, 1.0)),
        ]
    )
    names = {}

    def transforms(image, target):
        image = v2.functional.pil_to_tensor(image)
        objects = target["annotation"].get("object", [])
        sides = [[float(o["bndbox"][s]) for s in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        sides = torch.tensor(sides).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
        boxes = tv_tensors.BoundingBoxes(sides, format="XYXY", canvas_size=tuple(image.shape[-2:]))
        labels = torch.tensor([names.setdefault(o["name"], len(names)) for o in objects], dtype=torch.long)
        image, target = transform(tv_tensors.Image(image), {"boxes": boxes, "labels": labels})
        return image.as_subclass(torch.Tensor), target

    years = [("2007", "trainval"), ("2012", "trainval")]
    parts = [datasets.VOCDetection(folder, year, part, transforms=transforms) for year, part in years]
    return torch.utils.data.ConcatDataset(parts), lambda batch: (torch.stack([i for i, _ in batch]), [t for _, t in batch])


kind, folder, workers, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
samples, collate = {"imagenet": imagenet, "voc": voc}[kind](folder)
loader = torch.utils.data.DataLoader(
    samples,
    batch_size=batch,
    shuffle=True,
    num_workers=workers,
    persistent_workers=True,
    prefetch_factor=4,
    collate_fn=collate,
)
print(f"torchvision {torchvision.__version__}, PyTorch {torch.__version__}, {workers} workers", flush=True)
for _ in sys.stdin:
    start, images = time.perf_counter(), 0
    for seen, _ in loader:
        images += len(seen)
    print(images, time.perf_counter() - start, flush=True)
