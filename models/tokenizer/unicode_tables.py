#!/usr/bin/env python3
"""Writes unicode_tables.cpp beside itself.

usage: unicode_tables.py      (needs tokenizers and regex)

Hugging Face's tokenizers carry character tables of several ages: accents and punctuation of an old Unicode, lower case of a new one. What
counts is equality with them, so every code point is asked; canonical decompositions and combining classes come from Python's unicodedata,
less the characters that the library does not know as such. So do the classes that part a text into grapheme clusters, from the regex module.
"""
import pathlib
import sys
import unicodedata

import regex
from tokenizers import Regex, normalizers, pre_tokenizers

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests/models/reference"))
from character_map import character_map

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic


def runs(code_points):
    """[first, last] of neighbours."""
    out = []
    for c in code_points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def bert(**on):
    return normalizers.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False, **on})


nfd, nfc = normalizers.NFD(), normalizers.NFC()
compositions, decompositions = [], []  # what NFC puts together again, and the rest
for c in CODE_POINTS:
    parts = unicodedata.decomposition(chr(c)).split()
    if c in HANGUL or not parts or parts[0].startswith("<"):
        continue
    if nfd.normalize_str(chr(c)) != unicodedata.normalize("NFD", chr(c)):
        continue
    first, second = int(parts[0], 16), int(parts[1], 16) if len(parts) > 1 else 0
    composes = len(parts) > 1 and nfc.normalize_str(chr(first) + chr(second)) == chr(c)
    (compositions if composes else decompositions).append((c, first, second))

# A mark of class 240 moves behind one of class 1 unless a starter stands between them.
classes = []
for c in CODE_POINTS:
    order = unicodedata.combining(chr(c))
    if not order or nfd.normalize_str("a\u0345" + chr(c) + "\u0334").startswith("a\u0345"):
        continue
    if classes and classes[-1][1] == c - 1 and classes[-1][2] == order:
        classes[-1][1] = c
    else:
        classes.append([c, c, order])

lower = normalizers.Lowercase()
lowered = {c: lower.normalize_str(chr(c)) for c in CODE_POINTS}
assert [c for c in CODE_POINTS if len(lowered[c]) != 1] == [0x130]  # i with a dot above, spelt out in the code
cases = []  # first, last, step, difference
for c in CODE_POINTS:
    if c == 0x130 or lowered[c] == chr(c):
        continue
    difference = ord(lowered[c]) - c
    if cases and cases[-1][3] == difference and c - cases[-1][1] in (1, 2) and cases[-1][2] in (0, c - cases[-1][1]):
        cases[-1][2] = c - cases[-1][1]
        cases[-1][1] = c
    else:
        cases.append([c, c, 0, difference])
for case in cases:
    case[2] = max(case[2], 1)

# A cluster of less than six bytes becomes X where the map has the character that it begins with.
joined = normalizers.Precompiled(character_map({"a": "X"}))
pictograms = normalizers.Precompiled(character_map({"\u00a9": "X"}))
everything = "".join(map(chr, CODE_POINTS))
kind_of = {}  # GraphemeKind
KINDS = [(2, r"\p{GCB=Control}"), (3, r"\p{GCB=Extend}"), (4, r"\p{InCB=Extend}"), (5, r"[\p{InCB=Linker}--\p{GCB=Prepend}]"), (6, r"\u200D"),
         (7, r"\p{GCB=RI}"), (8, r"\p{GCB=Prepend}"), (9, r"\p{GCB=SpacingMark}"), (10, r"\p{GCB=L}"), (11, r"\p{GCB=V}"), (12, r"\p{GCB=T}"),
         (14, r"\p{InCB=Consonant}")]
for kind, pattern in KINDS:
    kind_of |= {ord(c): kind for c in regex.findall(pattern, everything, regex.VERSION1)}
for c in CODE_POINTS:
    joins = joined.normalize_str("a" + chr(c)) == "X"
    assert not joins or kind_of[c] in (3, 4, 5, 6, 9), hex(c)
    if not joins and kind_of.get(c) in (3, 4, 5, 9):
        del kind_of[c]
    if not joins and pictograms.normalize_str("\u00a9\u200d" + chr(c)).startswith("X\u200d"):
        assert c not in kind_of
        kind_of[c] = 13
graphemes = []  # first, last, kind
for c, kind in sorted(kind_of.items()):
    if graphemes and graphemes[-1][1] == c - 1 and graphemes[-1][2] == kind:
        graphemes[-1][1] = c
    else:
        graphemes.append([c, c, kind])

digits = pre_tokenizers.Digits(individual_digits=True)


def category(name):
    """What the library's regular expressions take for the category."""
    removed = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed")
    return runs(c for c in CODE_POINTS if not removed.pre_tokenize_str(chr(c)))


clean, accents, words = bert(clean_text=True), bert(strip_accents=True), pre_tokenizers.BertPreTokenizer()
tables = {
    "kBertRemoved": runs(c for c in CODE_POINTS if clean.normalize_str(f"a{chr(c)}b") == "ab"),
    "kAccents": runs(c for c in CODE_POINTS if accents.normalize_str(f"a{chr(c)}b") == "ab"),
    "kNumbers": runs(c for c in CODE_POINTS if len(digits.pre_tokenize_str(f"a{chr(c)}a")) == 3),
    "kMarks": category("M"),
    "kPunctuation": category("P"),
    "kSymbols": category("S"),
    "kBertPunctuation": runs(c for c in CODE_POINTS if len(words.pre_tokenize_str(f"a{chr(c)}b")) == 3),
}


def packed(rows):
    """Rows of numbers as one text: each number less that of the row before, in Google's Encoded Polyline Algorithm Format."""
    out, before = "", None
    for row in rows:
        for number, last in zip(row, before or [0] * len(row)):
            left = (number - last) << 1
            left = ~left if left < 0 else left
            while left >= 0x20:
                out += chr((0x20 | left & 0x1F) + 63)
                left >>= 5
            out += chr(left + 63)
        before = row
    return out


def table(name, rows):
    text, width = packed(rows), 138
    lines = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    return f'extern const std::string_view {name} = R"(\n{lines})";\n'


text = """// Made by unicode_tables.py; not to be edited.
#include "models/tokenizer/unicode_tables.h"

// clang-format off
namespace zerostep {

"""
tables = {"kCompositions": compositions, "kDecompositions": decompositions, "kCombiningClasses": classes, "kLowerCase": cases, "kGraphemes": graphemes, **tables}
text += "\n".join(table(name, rows) for name, rows in tables.items()) + "\n}  // namespace zerostep\n"
out = pathlib.Path(__file__).with_suffix(".cpp")
out.write_text(text)
print(", ".join(f"{len(rows)} {name}" for name, rows in tables.items()) + f" -> {out}, {len(text)} bytes")
