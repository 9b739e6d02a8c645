"""Makes optim.json, the numbers that tests/optim.rs compares with.

    python tests/reference/optim.py > tests/reference/optim.json

Made with PyTorch 2.11 in double precision. tests/optim.rs computes the same losses.
"""

import json

import torch

torch.set_default_dtype(torch.float64)
STEPS = 10
CLIP = 0.5

# name: optimizer, its defaults, the options of the group that holds `b`, clipping
CASES = {
    "adamw_defaults": (torch.optim.AdamW, dict(lr=0.01), {}, False),
    "adamw_two_groups": (
        torch.optim.AdamW,
        dict(lr=0.05, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
        dict(lr=0.01, weight_decay=0.0, betas=(0.7, 0.9), eps=1e-3),
        False,
    ),
    "adamw_clipped": (torch.optim.AdamW, dict(lr=0.05), {}, True),
    "adam_defaults": (torch.optim.Adam, dict(lr=0.01), {}, False),
    "adam_weight_decay": (torch.optim.Adam, dict(lr=0.05, weight_decay=0.1), dict(weight_decay=0.0), False),
    "sgd_defaults": (torch.optim.SGD, dict(lr=0.05), {}, False),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.02, momentum=0.9), dict(momentum=0.5, weight_decay=0.2), False),
    "sgd_clipped": (torch.optim.SGD, dict(lr=0.5, weight_decay=0.1), {}, True),
}


def run(kind, defaults, options, clip):
    a = (torch.arange(6.0).reshape(2, 3) * 0.3 - 0.7).requires_grad_()
    b = (torch.arange(3.0) * 0.2 - 0.1).requires_grad_()
    c = torch.tensor([0.4, -0.6]).requires_grad_()
    optimizer = kind([{"params": [a, c]}, {"params": [b], **options}], **defaults)
    base = [group["lr"] for group in optimizer.param_groups]
    values, norms = [], []
    for step in range(STEPS):
        x = torch.arange(6.0).reshape(2, 3) * 0.1 * (step + 1)
        loss = (a * x).sin().sum() + 0.1 * ((a + b) ** 2).sum()
        if step % 2 == 0:  # at the other steps `c` has no gradient
            loss = loss + (c**3).sum()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            norms.append(torch.nn.utils.clip_grad_norm_([a, b, c], CLIP).item())
        for group, lr in zip(optimizer.param_groups, base):
            group["lr"] = lr * (1 - step / STEPS)
        optimizer.step()
        values.append(torch.cat([p.detach().flatten() for p in (a, b, c)]).tolist())
    return {"defaults": defaults, "options": options, "values": values, "norms": norms}


print("{")
for i, (name, case) in enumerate(CASES.items()):
    print(f' "{name}": {json.dumps(run(*case))}' + ("," if i + 1 < len(CASES) else ""))
print("}")
