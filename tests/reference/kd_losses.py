"""Makes kd_losses.json, the numbers that tests/output_losses.rs compares with.

    python tests/reference/kd_losses.py > tests/reference/kd_losses.json

Made with PyTorch 2.11 in double precision; the gradients are autograd's.
"""

import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)

STUDENT = [[0.3, -1.7, 2.2], [-0.4, 0.0, 5.0]]
TEACHER = [[1.1, -0.2, 0.9], [-3.0, 0.8, 4.5]]
EACH = [2.0, 5.0]

LOSSES = {
    "bce": lambda s, t, tau: F.binary_cross_entropy_with_logits(s / tau, torch.sigmoid(t / tau)),
    "regression_mse": lambda s, t, tau: F.mse_loss(s, t),
    "smooth_l1": lambda s, t, tau: F.smooth_l1_loss(s, t),
}


def run(name, temperature):
    student = torch.tensor(STUDENT, requires_grad=True)
    tau = torch.tensor(temperature)
    if tau.dim() == 1:
        tau = tau.unsqueeze(-1)
    loss = LOSSES[name](student, torch.tensor(TEACHER), tau)
    loss.backward()
    return {
        "loss": name,
        "temperature": temperature,
        "expected": loss.item(),
        "gradient": student.grad.flatten().tolist(),
    }


cases = [run(name, temperature) for name in LOSSES for temperature in (1.0, 4.0, EACH)]
print(json.dumps({"student": STUDENT, "teacher": TEACHER, "cases": cases}, indent=1))
