"""The order that tests/data.rs expects of shuffled loaders.

    python tests/reference/shuffle.py

ChaCha with 8 rounds after RFC 8439 (with the 64-bit counter of the original), the seed
and the epoch as key, and a shuffle from the end with the upper half of a product.
"""

import struct


def quarter(s, a, b, c, d):
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & 0xFFFFFFFF
        v = s[z] ^ s[x]
        s[z] = ((v << turn) | (v >> (32 - turn))) & 0xFFFFFFFF


def words(key):
    counter = 0
    while True:
        state = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key))
        state += [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        s = list(state)
        for _ in range(4):
            for i in range(4):
                quarter(s, i, i + 4, i + 8, i + 12)
            for i in range(4):
                quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        yield from ((x + y) & 0xFFFFFFFF for x, y in zip(s, state))
        counter += 1


def order(n, seed, epoch):
    stream = words(struct.pack("<QQ16x", seed, epoch))
    indices = list(range(n))
    for last in range(n - 1, 0, -1):
        low, high = next(stream), next(stream)
        other = ((high << 32 | low) * (last + 1)) >> 64
        indices[last], indices[other] = indices[other], indices[last]
    return indices


if __name__ == "__main__":
    for epoch in 1, 2:
        print(epoch, order(10, 42, epoch))
