"""The draws that tests/task_loader.rs expects.

    python tests/reference/tasks.py

The ChaCha of shuffle.py with 1 as the third part of the key; the upper 53 bits of a number
are compared with the running sums of size^tau.
"""

import struct
from bisect import bisect_right
from itertools import accumulate, islice

from shuffle import words


def draws(sizes, tau, seed, epoch):
    stream = words(struct.pack("<QQB15x", seed, epoch, 1))
    sums = list(accumulate((size / max(sizes)) ** tau for size in sizes))
    while True:
        low, high = next(stream), next(stream)
        yield bisect_right(sums, ((high << 32 | low) >> 11) * 2.0**-53 * sums[-1])


for sizes, tau in ([40, 10, 3], 1.0), ([40, 10, 3], 0.5), ([40, 10, 3], 0.0), ([1, 1, 1], 1.0):
    drawn = list(islice(draws(sizes, tau, 42, 1), 5300))
    print(sizes, tau, [drawn.count(task) for task in range(3)], drawn[:12])
print("epoch 2", list(islice(draws([40, 10, 3], 1.0, 42, 2), 12)))
