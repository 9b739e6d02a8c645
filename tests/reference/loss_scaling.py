"""Makes loss_scaling.json, the numbers that tests/loss_scaling.rs compares with.

    python tests/reference/loss_scaling.py > tests/reference/loss_scaling.json

Made with PyTorch 2.11: torch.amp.GradScaler on the CPU, whose gradients are infinite or
NaN at the steps 1, 2 and 7. After each step: the scale, the growth tracker, the parameter.
"""

import json

import torch

STEPS = 9
BAD = {1: (1, float("inf")), 2: (0, float("nan")), 7: (2, float("-inf"))}
OPTIMIZERS = {
    "adamw": lambda w: torch.optim.AdamW([w], lr=0.1),
    "adam": lambda w: torch.optim.Adam([w], lr=0.1, weight_decay=0.1),
    "sgd": lambda w: torch.optim.SGD([w], lr=0.1, momentum=0.9),
}


def run(make):
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = make(weight)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    rows = []
    for step in range(STEPS):
        slope = torch.tensor([0.1, 0.2, -0.3]) * (step + 1)
        if step in BAD:
            place, value = BAD[step]
            slope[place] = value
        optimizer.zero_grad()
        scaler.scale((weight * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        rows.append([scaler.get_scale(), scaler._get_growth_tracker(), *weight.tolist()])
    return rows


cases = []
for name, make in OPTIMIZERS.items():
    rows = ",\n  ".join(map(json.dumps, run(make)))
    cases.append(f'"{name}": [\n  {rows}\n]')
print("{" + ",\n".join(cases) + "}")
