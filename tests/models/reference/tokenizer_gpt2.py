#!/usr/bin/env python3
"""Writes tokenizer_gpt2.json: texts and their GPT-2 tokens, and a hash of every code point's class, for tokenizer_test.cpp.

usage: tokenizer_gpt2.py FOLDER_WITH_encoder.json_AND_vocab.bpe     (needs transformers, tokenizers and regex)

Two references must agree on every valid text: transformers' GPT2Tokenizer and the algorithm of GPT-2's release written out
below. The second also takes invalid UTF-8 (a byte outside any character counts as neither space, letter nor number) and
spellings of special tokens, which are ordinary text.
"""
import json
import pathlib
import random
import sys

import regex
from tokenizers import pre_tokenizers
from transformers import GPT2Tokenizer

folder = pathlib.Path(sys.argv[1])
encoder = json.load(open(folder / "encoder.json", encoding="utf-8"))
merges = [tuple(line.split()) for line in open(folder / "vocab.bpe", encoding="utf-8").read().split("\n")[1:-1]]
ranks = {pair: rank for rank, pair in enumerate(merges)}
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = [b for b in range(256) if b not in printable]
character = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}

# White_Space and the classes of Unicode 16, which is what Hugging Face's tokenizers have; the regex module may be newer.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
hugging_face = GPT2Tokenizer(vocab=encoder, merges=merges)
levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def class_of(c):
    """By Hugging Face's own pre-tokenizer: the class of a character is that of the one it joins."""
    return next((k for k, p in (("L", "a"), ("N", "1"), ("O", "!")) if len(levels.pre_tokenize_str(p + c)) == 1), "S")


CLASSES = "".join("O" if 0xD800 <= cp < 0xE000 else class_of(chr(cp)) for cp in range(0x110000))


def set_of(kind):
    out, start = [], None
    for cp in range(0x110001):
        inside = cp < 0x110000 and CLASSES[cp] == kind
        if inside and start is None:
            start = cp
        if not inside and start is not None:
            out.append(f"\\U{start:08x}-\\U{cp - 1:08x}")
            start = None
    return "".join(out)


L, N = set_of("L"), set_of("N")
pattern = regex.compile(f"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^{SPACE}{L}{N}]+|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+")


def merge(word):
    word = list(word)
    while len(word) > 1:
        best = min(zip(word, word[1:]), key=lambda pair: ranks.get(pair, float("inf")))
        if best not in ranks:
            break
        out, i = [], 0
        while i < len(word):
            if i + 1 < len(word) and (word[i], word[i + 1]) == best:
                out.append(word[i] + word[i + 1])
                i += 2
            else:
                out.append(word[i])
                i += 1
        word = out
    return word


def encode(data):
    tokens = []
    for piece in pattern.findall(data.decode("utf-8", "surrogateescape")):
        tokens += [encoder[s] for s in merge("".join(character[b] for b in piece.encode("utf-8", "surrogateescape")))]
    return tokens


texts = {
    "empty": "", "space": " ", "newline": "\n", "letter": "a", "nul": "\0", "sentence": "Hello, world! The quick brown fox jumps over the lazy dog.",
    "contractions": "I'm you're he's she'll they've I'd don't IT'S WE'LL 'tis o'clock ''s 's's 'sam 're've'll 'x ' s it’s don’t 'd'D",
    "spaces": "a  b   c    d \t e\t\tf\n\ng \n h\r\ni\r\r\nj  \n  k   ", "leading": "   three leading", "trailing": "three trailing   ", "tabs": "\tif x:\n\t\treturn\n",
    "only spaces": " " * 17, "only newlines": "\n" * 33, "mixed blank": " \n \t \r\n  \n", "vertical": "a\vb\fc\x1cd\x1de\x1ef\x1fg\x7fh\x85i",
    "unicode spaces": "a\u00a0b\u1680c\u2000d\u2003 e\u200af\u2028g\u2029h\u202fi\u205fj\u3000k\u3000\u3000l \u00a0 \u3000m",
    "no spaces": "a\u180eb\u200bc\u200dd\u2060e\ufefff\u00adg", "digits": "0 00 007 3.14159 1,000,000 1e-10 0x1F 12345678901234567890 v2.11.0 2nd ½ ² Ⅷ ٣٤٥ १२३ 四 ①",
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ☺︎ 🏳️‍🌈 1️⃣ 🧑🏿‍🚀🫠🫨 :-) ¯\\_(ツ)_/¯", "cjk": "我能吞下玻璃而不伤身体。私はガラスを食べられます。それは私を傷つけません。나는 유리를 먹을 수 있어요. 𠮷野家 㐀 ﾊﾝｶｸ ＦＵＬＬ　ｗｉｄｔｈ",
    "scripts": "Ελληνικά Русский עברית العربية हिन्दी ภาษาไทย தமிழ் ქართული Հայերեն አማርኛ ខ្មែរ བོད་ཡིག ᚠᛇᚻ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈𐌰",
    "combining": "e\u0301 a\u0308\u0323 Z\u0351\u036b\u0343A\u0340 n\u0303o ñ Å ﬁ ǆ İı ßẞ ŉ", "newer letters": "\U00031350x \u1c89y 1\U00010d40 \U0001e030\U0001e5f1!\U00016d40",
    "code": "#include <vector>\nint main(int argc, char** argv) {\n  for (int i = 0; i < 10; ++i) { printf(\"%d\\n\", i); }  // loop\n\treturn a->b[0]&&!c||d^=~e;\n}\n",
    "python": "def f(self, *args, **kwargs):\n    \"\"\"Doc.\"\"\"\n    return {k: v for k, v in kwargs.items() if k != 'x'}\n\n\nclass __A__(B):\n        pass\n",
    "json": '{"key": [1, 2.5e-3, null, true], "nested": {"a\\n": "\\u00e9"}}', "url": "https://example.com/a/b?c=d&e=%20f#g-h_i  mailto:x.y+z@q.co.uk",
    "long word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 3, "repeated letter": "a" * 300, "repeated pair": "ab" * 150 + "aab" * 40, "equals": "=" * 200 + "-" * 77 + "#" * 64,
    "camel": "HTTPServerRequestHandlerFactoryBeanImpl snake_case_name SCREAMING_CASE kebab-case dot.path::scope", "special": "a<|endoftext|>b <|endoftext|> <|endoftext",
    "markdown": "# Title\n\n* item **bold** _it_\n1. one\n\n```c\nx\n```\n| a | b |\n|---|---|\n> quote -- em—dash … “quotes” «g»\n",
    "math": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑ᵢ₌₁ⁿ i², √2 ≈ 1.414 ± 0.001 °C µm €5 £3 ¥7 ©®™", "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "latin1": "".join(map(chr, range(0xA0, 0x100))), "private": "\ue000\uf8ff\U000f0000\U0010fffd\ufffd\ufffe\uffff", "apostrophes": "''' 'S 'T rock 'n' roll y'all'd've '",
    "all ascii": "".join(map(chr, range(128))), "spaces then word": "x" + " " * 9 + "y" + "\u3000" * 3 + "z\n \u00a0\n w",
}
generator = random.Random(7)
alphabets = [" \n\t'sStredvml1a!\u00a0\u3000é😀中", "ab cd\n", "'drevmlst ", "  \u2003\u180e\n1½x"]
for i, alphabet in enumerate(alphabets):
    texts[f"random {i}"] = "".join(generator.choice(alphabet) for _ in range(600))
texts["random code points"] = "".join(chr(generator.choice([generator.randrange(0xD800), generator.randrange(0xE000, 0x110000)])) for _ in range(300))

invalid = {
    "lone continuation": b"a\x80b \x80 \x80\x80", "lone lead": b"caf\xc3 x\xe2\x82 y\xf0\x9f\x98 z\xf0", "overlong": b"\xc0\xaf \xc1\xbf \xe0\x80\x80 \xf0\x80\x80\x80x",
    "surrogates": b"x\xed\xa0\x80\xed\xb0\x80 y\xed\xbf\xbf", "too large": b"\xf4\x90\x80\x80 \xf5\x80\x80\x80 \xff\xfe a", "latin-1 text": "Füße, naïve café à gogo".encode("latin-1"),
    "utf-16": "héllo 中".encode("utf-16"), "cut character": "中文".encode()[:5] + b" a" + "😀".encode()[:3], "cut in space": b"a \xe3\x80 b\xe3\x80\x80 c\xc2",
    "valid beside": b"\xe4\xb8\xad\xff\xe4\xb8\xad 1\xfe2 \xff\xff  \xff", "all bytes": bytes(range(256)), "random bytes": generator.randbytes(700),
}
vectors = []
for name, text in texts.items():
    tokens = hugging_face(text)["input_ids"]
    if "<|endoftext|>" not in text:
        assert tokens == encode(text.encode()), name
    vectors.append({"name": name, "text": text, "tokens": tokens})
vectors += [{"name": name, "hex": data.hex(), "tokens": encode(data)} for name, data in invalid.items()]



def fnv1a(text):
    """64 bits."""
    h = 0xCBF29CE484222325
    for letter in text:
        h = (h ^ ord(letter)) * 0x100000001B3 % 2**64
    return f"{h:016x}"


# One letter a code point: L, N, S(pace), O(ther); surrogates count as O.
classes = {"fnv1a": fnv1a(CLASSES), **{k: CLASSES.count(k) for k in "LNSO"}}
# Pieces that are long enough for a quadratic merge to take hours; by formula, and only a hash of the tokens.
long = {"letter": "a" * 1000003, "letters": "".join(chr(97 + (i * i * 7 + i // 3) % 26) for i in range(1000003)), "spaces": " " * 1000003 + "x",
        "newlines": "\n" * 999999, "punctuation": "".join("=-+*/"[(i * i + i // 7) % 5] for i in range(300000)), "digits": "1234567890" * 50000}
words = []
for name, text in long.items():
    tokens = hugging_face(text)["input_ids"]
    words.append({"name": name, "tokens": len(tokens), "fnv1a": fnv1a(" ".join(map(str, tokens)))})
lines = ",\n".join(json.dumps(v, ensure_ascii=True, separators=(",", ":")) for v in vectors)
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text('{"classes": %s,\n"long": %s,\n"vectors": [\n%s\n]}\n' % (json.dumps(classes), json.dumps(words), lines))
print(f"{len(vectors)} vectors, {sum(len(v['tokens']) for v in vectors)} tokens -> {out}")
