"""Compares results and gradients of networks with torchvision's, from the same weights.

    python peers/torchvision_gradients.py path/to/adaloss-train [network ...]

Both compute in f32 on the CPU, batches normalised as in training, nothing dropped.  The measure is torchvision in f64, by the norm of the
difference over the norm.  Results may be four times as far from it as torchvision's own in f32 are, and 1e-6 at any rate.

Of millions of rectifiers some have an input that is nearer to zero than f32 is exact: these pass a gradient in one computation and
none in another.  One among n of them changes the gradients of all layers before it by about 1 / sqrt(n), in either framework, so that gradients
may be four times as far as the farthest of torchvision's are, and 1e-2 at any rate.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision

NETWORKS = {
    "vgg16:undropped": (torchvision.models.vgg16, 224, 2),
    "resnet18": (torchvision.models.resnet18, 224, 4),
    "resnet50": (torchvision.models.resnet50, 224, 4),
    "ssd300": (torchvision.models.detection.ssd300_vgg16, 300, 2),
}


def write(path, tensors):
    """Writes tensors in the format safetensors: a header of JSON behind its length, and the elements."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * 4
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().float().contiguous().numpy().tobytes())


def read(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = (8 + length + at for at in entry["data_offsets"])
        tensors[name] = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32).reshape(entry["shape"])
    return tensors


def make(network):
    """Makes a network whose weights differ from what it begins with, so that no layer is the identity."""
    torch.manual_seed(0)
    if network is torchvision.models.detection.ssd300_vgg16:
        model = network(weights=None, weights_backbone=None, num_classes=21)
    else:
        model = network()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.train()


def results_of(model, images):
    """Returns the results of a network in our order: of a detector scores and offsets of each map."""
    if not hasattr(model, "backbone"):
        return [model(images)]
    maps = list(model.backbone(images).values())
    scores = model.head.classification_head.module_list
    offsets = model.head.regression_head.module_list
    return [head(of) for of, *heads in zip(maps, scores, offsets) for head in heads]


def gradients_of(model, images, wanted, dtype):
    model = model.to(dtype)
    model.zero_grad()
    results = results_of(model, images.to(dtype))
    torch.autograd.backward(results, [gradient.to(dtype) for gradient in wanted])
    found = {f"results.{nth}": result.detach() for nth, result in enumerate(results)}
    found.update({name: p.grad for name, p in model.named_parameters()})
    return {name: tensor.double().clone() for name, tensor in found.items()}


def distance(a, b):
    return ((a.double() - b).norm() / b.norm()).item()


def compare(program, name, network, side, samples):
    model = make(network)
    images = torch.randn(samples, 3, side, side)
    with torch.no_grad():
        shapes = [result.shape for result in results_of(make(network), images)]
    wanted = [torch.randn(shape) for shape in shapes]
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / of) for of in ("weights", "inputs", "out")]
        weights = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
        write(paths[0], weights)
        write(paths[1], {"images": images, **{f"gradients.{nth}": of for nth, of in enumerate(wanted)}})
        command = [program, "gradients", name, "--weights", paths[0], "--inputs", paths[1], "--out", paths[2]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ours = read(paths[2])
    exact = gradients_of(model, images, wanted, torch.float64)
    theirs = gradients_of(model.float(), images, wanted, torch.float32)
    if ours.keys() != exact.keys():
        sys.exit(f"{name}: tensors of one side only: {sorted(ours.keys() ^ exact.keys())}")
    rows = [(distance(ours[of], exact[of]), distance(theirs[of], exact[of]), of) for of in exact]
    far = []
    for kind, least in (("results", 1e-6), ("gradients", 1e-2)):
        of_kind = [row for row in rows if row[2].startswith("results.") == (kind == "results")]
        both = [sorted(row[nth] for row in of_kind) for nth in (0, 1)]
        far += [row for row in of_kind if row[0] > max(4 * both[1][-1], least)]
        most, median = [of[-1] for of in both], [of[len(of) // 2] for of in both]
        print(
            f"{name}: {len(of_kind)} {kind}, distance from f64: median ours {median[0]:.1e}, torchvision's {median[1]:.1e}; "
            f"most {most[0]:.1e}, {most[1]:.1e}"
        )
    for ours, theirs, of in far:
        print(f"  {of}: ours {ours:.1e}, torchvision {theirs:.1e}")
    return not far


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
    chosen = sys.argv[2:] or NETWORKS
    fine = [compare(sys.argv[1], name, *NETWORKS[name]) for name in chosen]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
