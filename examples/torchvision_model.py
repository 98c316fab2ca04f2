"""The gradient engine alone, without project, workspace or app: index a torchvision model and ask it one question.

Run it with `python examples/torchvision_model.py`. The network's weights are drawn at random and so are the pictures:
put your own in their place.
"""

import copy
from collections.abc import Iterator

import torch
import torchvision

from attribution.forms import MatrixGradient
from attribution.gradients import GradientEngine
from attribution.projection import Eigenbasis

torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=10)
pictures, labels = torch.rand(256, 3, 32, 32), torch.randint(0, 10, (256,))

# Which parameters are read off the calls of their layers, and which cost another run, is found out on eight rows.
engine = GradientEngine.of(copy.deepcopy(model), (pictures[:8], labels[:8]))
print(f"{engine.n_parameters:,} parameters in {len(engine.blocks)} blocks; through torch.func:",
      [block.name for block in engine.blocks if not block.hooked] or "none")  # fmt: skip


def batches() -> Iterator[list[MatrixGradient]]:
    for rows in torch.arange(256).split(64):
        yield engine.gradients(pictures[rows], labels[rows]).gradients


basis = Eigenbasis(dimension=512).fit(engine.shapes, batches)
index = torch.cat([basis.project(gradients) for gradients in batches()])  # (256, 512), once

query = basis.project(engine.gradients(pictures[:1], labels[:1]).gradients)[0]
scores = index @ query  # positive: training on it lowers the query's loss
one = torch.ones(1)
asked = [gradient.weighted_sum(one) for gradient in engine.gradients(pictures[:1], labels[:1]).gradients]
parts = ([g.inner(q) for g, q in zip(gradients, asked, strict=True)] for gradients in batches())
exact = torch.cat([torch.stack(blocks).sum(0) for blocks in parts])
print("strongest:", scores.topk(5).indices.tolist(), "exactly:", exact.topk(5).indices.tolist())
# Nothing of size (256, 11 million) was ever held: norms and products come from the factors.
print(f"correlation with exact inner products: {torch.corrcoef(torch.stack([scores[1:], exact[1:]]))[0, 1]:.4f}")
