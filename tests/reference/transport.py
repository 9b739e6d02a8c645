"""Makes transport.json, the problems and optima that tests/extra/tests/transport.rs compares with.

    python tests/reference/transport.py > tests/reference/transport.json

Made with SciPy 1.17.1 and NumPy: linprog (HiGHS, dual simplex) for every problem, and
linear_sum_assignment as well for those that are assignments. The optimum of an assignment
is the latter's. Weights are normalised here, not there: `supply` and `demand` are as given
to the solver under test.
"""

import json

import numpy as np
from scipy.optimize import linear_sum_assignment, linprog

random = np.random.default_rng(20201013)


def optimum(supply, demand, cost):
    rows, columns = cost.shape
    supply, demand = np.array(supply) / np.sum(supply), np.array(demand) / np.sum(demand)
    equations = np.zeros((rows + columns, rows * columns))
    for i in range(rows):
        equations[i, i * columns : (i + 1) * columns] = 1
    for j in range(columns):
        equations[rows + j, j::columns] = 1
    options = dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10)
    solved = linprog(
        cost.ravel(), A_eq=equations, b_eq=np.concatenate([supply, demand]), method="highs-ds", options=options
    )
    assert solved.status == 0, solved.message
    return float(solved.fun)


def rounded(values):
    # Few digits, so that the file is small and reads back exactly.
    return np.round(values, 4)


def problem(kind, rows, columns):
    supply, demand = np.ones(rows), np.ones(columns)
    cost = random.random((rows, columns))
    if kind in ("random weights", "zero weights", "negative costs"):
        supply, demand = random.random(rows) + 0.01, random.random(columns) + 0.01
    if kind == "zero weights":
        supply[random.integers(rows)] = 0
        demand[random.random(columns) < 0.4] = 0
        demand[0] = 0.5
    if kind == "negative costs":
        cost = 2 * cost - 1
    if kind == "few costs":
        cost = np.floor(3 * cost)
    if kind == "skewed":
        supply, cost = 10 ** (-6 * random.random(rows)), 10 ** (3 - 6 * cost)
        return np.array([float(f"{w:.3e}") for w in supply]), demand, rounded(cost)
    return rounded(supply), rounded(demand), rounded(cost)


sizes = [(1, 5), (5, 1), (2, 3), (6, 3), (12, 4), (12, 6), (9, 14), (25, 7)]
kinds = ["uniform", "random weights", "zero weights", "negative costs", "few costs", "skewed"]
problems = [(kind, *problem(kind, *size)) for kind in kinds for size in sizes if kind != "zero weights" or min(size) > 1]
cases = []
for kind, supply, demand, cost in problems:
    case = dict(kind=kind, supply=supply.tolist(), demand=demand.tolist(), cost=cost.tolist())
    cases.append(dict(case, optimum=optimum(supply, demand, cost)))
for size in (3, 8, 16):
    cost = rounded(random.random((size, size)))
    found = float(cost[linear_sum_assignment(cost)].sum()) / size
    assert abs(found - optimum(np.ones(size), np.ones(size), cost)) < 1e-12
    ones = [1.0] * size
    cases.append(dict(kind="assignment", supply=ones, demand=ones, cost=cost.tolist(), optimum=found))

print("[")
for i, case in enumerate(cases):
    print(" " + json.dumps(case) + ("," if i + 1 < len(cases) else ""))
print("]")
