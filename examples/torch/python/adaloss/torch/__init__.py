"""Loss scales per layer for PyTorch.

scaler = adaloss.torch.GradScaler()      # was torch.amp.GradScaler()
adaloss.torch.prepare(model)             # once
...
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
"""

from ._prepare import prepare, unprepare, unprepared
from ._ranks import RanksDiffer
from ._scaler import GradScaler, Report
from ._watch import Watch, watch

__all__ = ["GradScaler", "RanksDiffer", "Report", "Watch", "prepare", "unprepare", "unprepared", "watch"]
