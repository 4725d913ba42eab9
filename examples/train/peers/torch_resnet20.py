"""One f32 training step of ResNet-20 at CIFAR shape in PyTorch on the CPU: what `--bench step` is compared with.

python torch_resnet20.py [THREADS] [BATCH]
"""

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions; a shortcut that takes every second pixel and pads channels where needed."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = conv(inputs, outputs, stride), conv(outputs, outputs, 1)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x):
        y = self.second(functional.relu(self.first(x)))
        if self.stride != 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
        return functional.relu(x + y)


def resnet20():
    layers, channels = [conv(3, 16, 1), nn.ReLU()], 16
    for stage in range(3):
        for block in range(3):
            layers.append(Block(channels, 16 << stage, 2 if stage and not block else 1))
            channels = 16 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


threads, batch = (int(x) for x in (sys.argv[1:] + ["2", "128"][len(sys.argv) - 1 :])[:2])
torch.set_num_threads(threads)
net = resnet20()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
seconds = []
for _ in range(20):
    start = time.perf_counter()
    optimizer.zero_grad()
    functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    seconds.append(time.perf_counter() - start)
parameters = sum(p.numel() for p in net.parameters())
print(f"PyTorch {torch.__version__}, {threads} threads, batches of {batch}, {parameters} parameters")
print(f"median {statistics.median(seconds[2:]):.4f} s")
