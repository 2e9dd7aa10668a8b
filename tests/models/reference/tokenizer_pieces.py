#!/usr/bin/env python3
"""Writes for tokenizer_pieces_test.cpp: in the folder tokenizers small tokenizers with the structure of Llama 2's, T5's and XLM-R's files and of
those that set digits apart, and beside itself tokenizer_pieces.json: how hard texts are drawn, and hashes of what Hugging Face's tokenizers
make of them, by each file and by variants of it.

usage: tokenizer_pieces.py      (needs tokenizers; tokenizer_gpt2.json beside it has texts to train on)
"""
import base64
import copy
import json
import pathlib
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from character_map import character_map

here = pathlib.Path(__file__).parent
folder = here / "tokenizers"
BLOCKS, BLOCKS_A_GROUP = 960, 32

fragments = [
    "the", "quick brown fox", "jumps", "Over", "DON'T", "I'll 's ''s", "lazy dogs.", "(x, y)", "x = y[0];", "unbelievable", "naïve café", "e\u0301", "a\u0308\u0323 ệ n\u0303o", "ﬁ ﬂ ½ ² Ⅷ ㎏",
    "ｱ ﾊﾟ ０１２ Ａｂ", "中文字符和汉字", "日本語テキスト。", "한국어 문장 가\u11a8 각", "\u1100\u1161\u11a8", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "❤\ufe0f", "\u00a9\u200d\u00a9", "\u00a9\u0301", "1\ufe0f\u20e3", "עברית שָׁלוֹם", "العربية مَرْحَبًا", "\u0600123", "\u06dda \u0600\u0301", "हिन्दी क्षत्रिय", "क्\u200dष", "த\u200cமிழ்", "ภาษาไทย", "កម្ពុជា",
    "क\u094d\u0958\u0300 क़\u0300", "\x00\x01\x07\x1f\x7f", "\x80\x9f\u200b\u200c", "\u200d\ufeff\u2028\u2029\u00ad", "\ttabs\t\t", "    ", "\n\n\n", "\r\n", "\r", "\u00a0\u3000\u2003\u1680\u180e", "▁", "▁▁ a▁b", "12 345,678.90",
    "1234567", "v2.11.0", "١٢٣ १२३ Ⅻ ①", "supercalifragilisticexpialidocious" * 4, "a" * 120, "ab" * 60, "<s>", "</s>", "<unk>", "<pad>", "<0x0A>", " <mask>", "<extra_id_0>", "https://a.b/c?d=e&f", "__init__ {}[]();",
    "ÀÉÎ ß İı", "ΟΔΥΣΣΕΥΣ", "¨ ´ ¯ ˛", "\ufffd\uffff\ue000", "\U00020bb7野家 \U0001d518", "\u11de0 \U00011de0\U00016ff4", "->", "...", "?!", "--", "“quoted” ‘it’s’"]
spaces = ["  ", "\n", "\t", " \n ", "\u3000", "   ", "\u00a0", ""]
ranges = [[0x20, 0x250], [0x300, 0x370], [0x250, 0xD800], [0xE000, 0x11000], [0x10000, 0x20000], [0x4E00, 0xA000]]


class Draw:
    def __init__(self, seed):
        self.state = seed

    def __call__(self, count):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % count


def block(number):
    """A hard text: fragments and random characters, with white space of all kinds between them."""
    draw, text = Draw(number), ""
    for _ in range(40):
        if draw(6) == 0:
            for _ in range(1 + draw(8)):
                first, end = ranges[draw(len(ranges))]
                text += chr(first + draw(end - first))
        else:
            text += fragments[draw(len(fragments))]
        gap = draw(4)
        text += ["", " ", " "][gap] if gap < 3 else spaces[draw(len(spaces))]
    return text


plain = [v["text"] for v in json.load(open(here / "tokenizer_gpt2.json", encoding="utf-8"))["vectors"] if "text" in v and "random" not in v["name"]]
training = plain * 2 + [f for f in fragments for _ in range(3)] + open(__file__, encoding="utf-8").read().split("\n")
training = [t for t in training if "<" not in t]  # no special token is learnt
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# SentencePiece's rule nmt_nfkc, of a part of the characters: compatibility forms, composed pairs, controls, spaces.
entries = {chr(c): "" for c in (*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F)}
entries |= {chr(c): " " for c in (9, 0xA, 0xC, 0xD, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF, 0xFFFD, 0x200B)}
for c in (*range(0xA0, 0x180), *range(0x340, 0x380), *range(0x958, 0x960), *range(0x2070, 0x2090), *range(0x2153, 0x2180), *range(0x3300, 0x3310), *range(0x3380, 0x3398), *range(0xFB00, 0xFB07), *range(0xFB2A, 0xFB30), *range(0xFF10, 0xFF40), *range(0xFF66, 0xFF9E)):
    form = unicodedata.normalize("NFKC", chr(c))
    if form != chr(c):
        entries.setdefault(chr(c), form)
    canonical = unicodedata.normalize("NFD", chr(c))
    if len(canonical) > 1 and unicodedata.normalize("NFC", canonical) == chr(c):
        entries.setdefault(canonical, chr(c))
entries |= {"\r\n": " ", "\uff8a\uff9f": "パ", "a\u0323\u0308": "ạ\u0308", "가\u11a8": "각"}
NMT = normalizers.Precompiled(character_map(entries))


def special(*names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


def llama2():
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.Metaspace()
    letters.train_from_iterator(training, trainers.BpeTrainer(vocab_size=620, limit_alphabet=110, show_progress=False))
    model = json.loads(letters.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + BYTES + sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(m) for m in model["merges"]] + [("▁", "▁"), ("▁▁", "▁▁")]
    names += [n for n in ("▁▁", "▁▁▁▁", "▁lazy▁dogs") if n not in names]
    tokenizer = Tokenizer(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram(names, size, pieces, normalizer, single, pair):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pieces, decoders.Metaspace()
    tokenizer.train_from_iterator(training, trainers.UnigramTrainer(vocab_size=size, special_tokens=names, unk_token="<unk>", show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(n, tokenizer.token_to_id(n)) for n in names if n in single.split()])
    return tokenizer


def t5():
    pieces = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer = unigram(["<pad>", "</s>", "<unk>"], 700, pieces, NMT, "$A </s>", "$A </s> $B:1 </s>:1")
    tokenizer.add_special_tokens(special("<extra_id_0>"))
    return tokenizer


def xlmr():
    normalizer = normalizers.Sequence([NMT, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer = unigram(["<s>", "<pad>", "</s>", "<unk>"], 650, pre_tokenizers.Metaspace(), normalizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    return tokenizer


def digits():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training, trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.add_special_tokens(special("<|endoftext|>", "<s>"))
    return tokenizer


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
FIRST = {**METASPACE, "prepend_scheme": "first", "split": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = ["[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-ἝＡ-Ｚａ-ｚ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
            "[一-龥ࠀ-一가-\ud7ff]+"]
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
files = {"llama2": llama2(), "t5": t5(), "xlmr": xlmr(), "digits": digits()}
for name, tokenizer in files.items():
    (folder / f"{name}.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
parsed = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in files}
as_text = [{**t, "normalized": True} for t in parsed["llama2"]["added_tokens"]]
nmt = parsed["t5"]["normalizer"]
gemma = [{"id": parsed["llama2"]["model"]["vocab"]["▁▁"], "content": "▁▁", "normalized": False}, {"id": len(parsed["llama2"]["model"]["vocab"]), "content": "\n\n\n", "normalized": False}]
gemma = [{"single_word": False, "lstrip": False, "rstrip": False, "special": False, **t} for t in gemma]
bytes_at_end = [[b, -20.0 - i / 100] for i, b in enumerate(BYTES)]

# What of a file is other: a JSON merge patch.
kinds = {name: (name, {}) for name in files} | {
    "tinyllama": ("llama2", {"added_tokens": as_text}),
    "mistral": ("llama2", {"normalizer": None, "pre_tokenizer": FIRST}),
    "metaspace": ("llama2", {"normalizer": None, "pre_tokenizer": METASPACE, "decoder": METASPACE}),
    "gemma": ("llama2", {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                         "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}, "added_tokens": parsed["llama2"]["added_tokens"] + gemma}),
    "no bytes": ("llama2", {"model": {"byte_fallback": False}}),
    "no bytes, unknown apart": ("llama2", {"model": {"byte_fallback": False, "fuse_unk": False}}),
    "no bytes, no unknown": ("llama2", {"model": {"byte_fallback": False, "unk_token": None}}),
    "whole": ("llama2", {"model": {"ignore_merges": True}, "pre_tokenizer": {**METASPACE, "split": True}}),
    "composed": ("llama2", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}}),
    "flan": ("t5", {"normalizer": {"type": "Sequence", "normalizers": [nmt, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
                    "pre_tokenizer": METASPACE}),
    "first": ("t5", {"pre_tokenizer": {**FIRST, "split": True}}),
    "one piece": ("t5", {"normalizer": {"type": "NFD"}, "pre_tokenizer": {**METASPACE, "split": False}}),
    "unigram bytes": ("t5", {"model": {"byte_fallback": True, "vocab": parsed["t5"]["model"]["vocab"] + bytes_at_end}, "added_tokens": parsed["t5"]["added_tokens"][:3],
                             "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, METASPACE]}}),
    "numbers": ("digits", {"pre_tokenizer": {"pretokenizers": [{"type": "Digits", "individual_digits": False}, LEVEL]}}),
    "prefixed": ("digits", {"pre_tokenizer": {"pretokenizers": None, **LEVEL}}),
    "prefixed digits": ("digits", {"pre_tokenizer": {"pretokenizers": [{"type": "Digits", "individual_digits": True}, LEVEL]}}),
    "deepseek": ("digits", {"pre_tokenizer": {"pretokenizers": [*({**SPLIT, "pattern": {"Regex": r}} for r in DEEPSEEK), {"type": "Digits", "individual_digits": True}, {**LEVEL, "add_prefix_space": False, "use_regex": False}]}}),
    "deepseek3": ("digits", {"pre_tokenizer": {"pretokenizers": [*({**SPLIT, "pattern": {"Regex": r}} for r in DEEPSEEK3), {**LEVEL, "add_prefix_space": False, "use_regex": False}]}}),
    "prefixed split": ("digits", {"pre_tokenizer": {"pretokenizers": [SPLIT, {"type": "Digits", "individual_digits": True}, {**LEVEL, "use_regex": False}]}}),
}


def patched(value, patch):
    if not isinstance(patch, dict):
        return patch
    value = copy.deepcopy(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        value[key] = patched(value.get(key), change)
    return value


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


blocks = [block(number) for number in range(BLOCKS)]
out = {"fragments": fragments, "spaces": spaces, "ranges": ranges, "blocks": BLOCKS, "blocks_a_group": BLOCKS_A_GROUP, "kinds": {}}
for name, (of, patch) in kinds.items():
    file = patched(parsed[of], patch)
    if file["pre_tokenizer"] and file["pre_tokenizer"].get("pretokenizers", 0) is None:
        del file["pre_tokenizer"]["pretokenizers"]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in blocks]
    whole = tokenizer.encode("a").ids
    groups = [[i for i in range(begin, begin + BLOCKS_A_GROUP)] for begin in range(0, BLOCKS, BLOCKS_A_GROUP)]
    tokens = [fnv1a(" ".join(map(str, sum((ids[i] for i in g), []))).encode()) for g in groups]
    decoded = fnv1a("\n".join(tokenizer.decode(i, skip_special_tokens=False) for i in ids).encode())
    out["kinds"][name] = {"of": of, "patch": patch, "tokens": sum(map(len, ids)), "with_template": whole, "groups": tokens, "decoded": decoded}
    assert out["kinds"][name]["tokens"] >= 100000, (name, out["kinds"][name]["tokens"])

# Grapheme clusters: what a map makes of all characters beside and behind others, and the normal forms of all characters.
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
first_letters = {c: "X" for c in ("a", "\u00a9", "\u0600", "\u0915", "가", "\r")}
out["map"] = base64.b64encode(character_map(first_letters)).decode()
clusters = normalizers.Precompiled(character_map(first_letters))
out["clusters"] = {around: fnv1a("".join(clusters.normalize_str(around.replace("?", chr(c))) for c in CODE_POINTS).encode()) for around in ("a?b", "\u00a9\u200d?", "\u0600?\u0301", "\u0915\u094d?\u0300", "가?\u0300", "\r?", "a?\u200d\u00a9")}
digit = pre_tokenizers.Digits(individual_digits=True)
out["numbers"] = fnv1a("".join(str(len(digit.pre_tokenize_str("a" + chr(c)))) for c in CODE_POINTS).encode())
out["patterns"] = {}
for pattern in (r"\p{L}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}", r"\s", r"[^\s\p{M}a-c]", r"\S", "a?[^\\p{L}x-\u00ff]+"):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    out["patterns"][pattern] = fnv1a("".join(str(len(split.pre_tokenize_str("a" + chr(c) + "b")[0][0])) for c in CODE_POINTS).encode())
place = pathlib.Path(__file__).with_suffix(".json")
lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in out.items())
place.write_text("{" + lines + "}\n")
print({name: kind["tokens"] for name, kind in out["kinds"].items()}, {p.name: p.stat().st_size for p in (place, *(folder / f"{name}.json" for name in files))})
