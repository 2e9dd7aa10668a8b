#!/usr/bin/env python3
"""Writes the folder tokenizers beside itself for tokenizer_families_test.cpp: small tokenizers with the rules of Llama 3, Qwen2 and BERT, and
vectors.json with what Hugging Face's libraries make of hard texts.

usage: tokenizer_families.py      (needs transformers and tokenizers; tokenizer_gpt2.json beside it has most of the texts)
"""
import json
import pathlib
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast

here = pathlib.Path(__file__).parent
folder = here / "tokenizers"
folder.mkdir(exist_ok=True)
generator = random.Random(11)

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

texts = {v["name"]: v["text"] for v in json.load(open(here / "tokenizer_gpt2.json", encoding="utf-8"))["vectors"] if "text" in v}
known = set(texts)
texts |= {
    "contractions in cases": "I'M you'RE he'S she'Ll they'vE I'D DON'T 'ſ 'LLama x'ſ y'VE'd 'Tis 's'S''s it's'",
    "line ends": "a\r\nb\r\r\nc\n\n\nd!\r\n!\n\n ?\n x\n \ny \n\n z...\n\n\t\n\r", "punctuation then lines": "end.\n\n(\n)\n\n;\r\n\r\nfoo(\n\tbar);\n}\n\n\n",
    "long digits": "1234567 12 1 1234 1,234.56 ١٢٣٤٥ ⅧⅨⅩⅪ 1²3³4", "letters after marks": ".word (word \tword #tag @name $x _y -z €uro  two\u00a0nbsp\u3000wide",
    "special tokens": "<|begin_of_text|>a <|eot_id|>b<|eot_id|><|eot_i|> <|end_of_text|> x<|im_start|>user\nhi<|im_end|>\n <|endoftext|> <tool_call>{}</tool_call> <tool",
    "whole": "a xqzj xqzjs Xqzj  xqzj", "marks": "cafe\u0301 café e\u0323\u0302 ệ ê\u0323 Å \u212b A\u030a Ω\u2126 ﬁ \u1100\u1161\u11a8 각 가\u11a8 \u0344 \u0958 \u2adc \ufb2c x\u0315\u0300\u05ae\u0062",
    "bert special": "[CLS] a [SEP][MASK]b [cls] [UNK]x[PAD] [ MASK ] [MASKED]", "bert controls": "a\tb\rc\nd\x00e\x07f\x7fg\x85h\u200bi\u200dj\ufeffk\ufffdl\u00adm\u2028n\u2029o\ue000p\v q\fr",
    "bert punctuation": "a.b,c!d?e;f:g-h_i(j)k[l]m{n}o$p^q`r~s+t=u|v<w>x\\y/z «a»‹b›“c”„d‟e—f–g…h‰i§j¶k·l¿m¡n。o、p「q」r٪s؟t।u፡v᠀w⁂x〽y︙z！a＂b｟c𐄀d𝪇e",
    "bert accents": "Ünïcödé ÀÉÎÕÜ ÇŞĞ ßẞ ŒÆ ØÞÐ Łł Ħħ İı ǅ ÅÅ Ÿ Ǖ ệ Ђћ Ёё Йй Άά ΐ ΣΑΣ ς έ שָׁלוֹם مَرْحَبًا हिन्दी ไทย ガギグ ｶﾞ 각 a\u0344b \u0300x",
    "bert ideographs": "我abc能123吞。x㐀y𠀀z豈w丽v々u〇t가s中ア文", "bert words": "unbelievable supercalifragilistic " + "a" * 100 + " " + "a" * 101 + " " + "é" * 100 + " " + "e\u0301" * 60 + " " + "🙂" * 3,
    "bert cases": "The QUICK Brown fOX İstanbul STRASSE straße ΟΔΥΣΣΕΥΣ ǅ ᾈ Ⅷ Ⓐ 𝐀 Ａ ꭰ Ა",
}
alphabets = {"random lines": " \n\r\t'sStLREvdM1२a!.\u00a0\u3000é😀中", "random marks": "aeAou \u0301\u0323\u0302\u0315\u0345\u0327\u0334\u05b0\u3099かカ가\u1100\u1161\u11a8\u1112",
             "random bert": "aAéÉ \t.,!-中国\u0301\u200b\ufffd#[]ßİ1", "random cases": "".join(chr(c) for c in (*range(0xC0, 0x180), *range(0x370, 0x400), *range(0x1E00, 0x2000)) if chr(c).isalpha())}
for name, alphabet in alphabets.items():
    texts[name] = "".join(generator.choice(alphabet) for _ in range(500))
texts["random assigned"] = " ".join(chr(c) for c in generator.sample([c for c in range(0x20, 0x1F000) if unicodedata.category(chr(c)) not in ("Cs", "Cn")], 400))
training = [t for n, t in texts.items() if "random" not in n and n != "whole"] * 2 + open(__file__, encoding="utf-8").read().split("\n")


def byte_pair(name, pattern, normalizer, added, post, ignore_merges):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    split = pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training, trainers.BpeTrainer(vocab_size=560, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    file = json.loads(tokenizer.to_str())
    if ignore_merges:  # a token that no merge makes
        assert "Ġxqzj" not in file["model"]["vocab"]
        file["model"]["vocab"]["Ġxqzj"] = len(file["model"]["vocab"])
        file["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.add_tokens(added)
    tokenizer.post_processor = post(tokenizer)
    return save(name, tokenizer)


def save(name, tokenizer):
    (folder / f"{name}.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=True, separators=(",", ":")) + "\n")
    return Tokenizer.from_file(str(folder / f"{name}.json"))


def begin_of_text(tokenizer):
    level = processors.ByteLevel(trim_offsets=True)
    token = "<|begin_of_text|>"
    return processors.Sequence([level, processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, tokenizer.token_to_id(token))])])


def special(*names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


tokenizers = {
    "llama3": byte_pair("llama3", LLAMA3, None, special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), begin_of_text, True),
    "qwen2": byte_pair("qwen2", QWEN2, normalizers.NFC(), special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
                       + [AddedToken("<tool_call>", special=False, normalized=False), AddedToken("caf\u00e9", special=False, normalized=True),
                          AddedToken("<|left|>", lstrip=True), AddedToken("<|right|>", rstrip=True)],
                       lambda t: processors.ByteLevel(trim_offsets=False), False),
}
texts["strips"] = "a  <|left|>  b \u3000<|right|>\u3000 \n c<|left|><|right|> <|left|>\t<|right|>  <|left|> cafe\u0301s café"

bert = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
bert.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
bert.train_from_iterator(training + ["É é Ü ü ß Σ σ ς A B C D"], trainers.WordPieceTrainer(vocab_size=1100, special_tokens=names, limit_alphabet=600, show_progress=False))
vocabulary = [t for t, i in sorted(bert.get_vocab().items(), key=lambda item: item[1])]
extra = [c for c in ("É", "é", "Ü", "##É", "##é", "Q", "##Q", "我", "##a", "##\U0001f642", "T", "##T", "İ", "##i\u0307") if c not in vocabulary]
vocabulary += extra
(folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
bert = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=100))
bert.add_special_tokens(names)
bert.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
bert.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[(n, vocabulary.index(n)) for n in ("[CLS]", "[SEP]")])
bert.decoder = decoders.WordPiece()
tokenizers["bert"] = save("bert", bert)

VARIANTS = {"default": {}, "cased": {"do_lower_case": False}, "accents": {"do_lower_case": True, "strip_accents": False},
            "cased stripped": {"do_lower_case": False, "strip_accents": True}, "ideographs": {"tokenize_chinese_chars": False}}
variants = {n: BertTokenizerFast(vocab={t: i for i, t in enumerate(vocabulary)}, **options) for n, options in VARIANTS.items()}
vectors = []
for name, text in texts.items():
    vector = {"name": name} if name in known else {"name": name, "text": text}
    tokens = {n: t.encode(text, add_special_tokens=False).ids for n, t in tokenizers.items()}
    whole = {n: t.encode(text).ids for n, t in tokenizers.items()}
    around = {n: [whole[n][:i], whole[n][i + len(tokens[n]):]] for n in tokens for i in [next(i for i in range(3) if whole[n][i:i + len(tokens[n])] == tokens[n])]}
    of_variant = {n: t(text, add_special_tokens=False)["input_ids"] for n, t in variants.items()}
    assert of_variant["default"] == tokens["bert"], name
    vector |= tokens | {n: t for n, t in of_variant.items() if t != tokens["bert"]}
    vectors.append(vector)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def pieces(tokenizer, text):
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(text))


# A digit a code point and neighbour: the number of pieces.
classes = {n: fnv1a("".join(str(pieces(tokenizers[n], p + chr(c))) for c in CODE_POINTS for p in "a1!").encode()) for n in ("llama3", "qwen2")}
nfc = normalizers.NFC()
normal = {"marks": fnv1a("".join(nfc.normalize_str("a" + chr(c) + "\u0323\u0301") for c in CODE_POINTS).encode()),
          "between": fnv1a("".join(nfc.normalize_str("e\u0345" + chr(c) + "\u0334") for c in CODE_POINTS).encode())}


def bert_form(**on):
    form = normalizers.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False, **on})
    return fnv1a("".join(form.normalize_str("a" + chr(c) + "b") for c in CODE_POINTS).encode())


normal |= {"clean_text": bert_form(clean_text=True), "handle_chinese_chars": bert_form(handle_chinese_chars=True), "strip_accents": bert_form(strip_accents=True),
           "lowercase": bert_form(lowercase=True)}
words = pre_tokenizers.BertPreTokenizer()
normal["words"] = fnv1a("".join(str(len(words.pre_tokenize_str("a" + chr(c) + "b"))) for c in CODE_POINTS).encode())

lines = ",\n".join(json.dumps(v, ensure_ascii=True, separators=(",", ":")) for v in vectors)
out = folder / "vectors.json"
out.write_text('{"around":%s,\n"variants":%s,\n"classes":%s,\n"normal":%s,\n"vectors":[\n%s\n]}\n' % (json.dumps(around), json.dumps(VARIANTS), json.dumps(classes), json.dumps(normal), lines))
print(f"{len(vectors)} vectors -> {out}", {p.name: p.stat().st_size for p in folder.iterdir()})
