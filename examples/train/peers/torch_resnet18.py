"""Times torchvision's ResNet-18 in f32: python torch_resnet18.py THREADS SAMPLES STEPS."""

import sys
import time

import torch
import torchvision

threads, samples, steps = (int(text) for text in sys.argv[1:4])
torch.set_num_threads(threads)
torch.manual_seed(0)
model = torchvision.models.resnet18().train()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
images = torch.rand(samples, 3, 224, 224) * 4 - 2
labels = torch.randint(0, 1000, (samples,))
times = []
for _ in range(steps + 1):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
times = sorted(times[1:])
print(f"torchvision {torchvision.__version__}, ResNet-18 in f32, {samples} samples: median {times[len(times) // 2]:.2f} s")
