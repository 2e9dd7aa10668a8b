"""The map of a Precompiled normalizer as SentencePiece writes it: a Darts-clone double array of the texts that are replaced, and what they
become. Only for small maps."""
import struct


def character_map(entries):
    """The bytes of {text: replacement}."""
    root, texts = {}, b""
    for key, value in sorted(entries.items()):
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = len(texts)  # a leaf: where its replacement begins
        texts += value.encode() + b"\0"
    units, taken, bases = [], {0}, set()

    def place(index, node):
        base = next(b for b in range(1, 1 << 21) if b not in bases and all(b ^ label not in taken for label in node))
        bases.add(base)
        taken.update(base ^ label for label in node)
        units.extend([0] * ((max(base, index) | 255) + 1 - len(units)))
        assert index ^ base < 1 << 21
        units[index] |= (index ^ base) << 10 | (0 in node) << 8
        for label, below in node.items():
            units[base ^ label] = label or 1 << 31 | below
        for label, below in node.items():
            if label:
                place(base ^ label, below)

    place(0, root)
    array = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(array)) + array + texts
