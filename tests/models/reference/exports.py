"""Writes exports.json beside this file: what Hugging Face's classifiers (transformers, torch, float64) make of directories that zerostep writes.

`zerostep init` writes a small untrained classifier of each family, whose values follow from the seed bit by bit and are large enough for every part to
matter; transformers loads the directory and has to find each of its parameters there and no other. For each: the model of the run's file, config.json as
it was written, size and CRC-32 of model.safetensors, tokens of padded texts with their mask, and the logits.

  python tests/models/reference/exports.py build/zerostep
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import torch
import transformers

DECODER = {"task": "classification", "initializer_range": 0.3}
LLAMA = {**DECODER, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
         "max_position_embeddings": 64}
MODELS = {
    "roberta": {"family": "roberta", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
                "max_position_embeddings": 66, "type_vocab_size": 1, "initializer_range": 0.3},
    "distilbert": {"family": "distilbert", "n_layers": 2, "dim": 32, "hidden_dim": 64, "n_heads": 2, "max_position_embeddings": 64,
                   "num_labels": 3, "initializer_range": 0.3},
    "gpt2": {**DECODER, "family": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64},
    "llama": {**LLAMA, "family": "llama"},
    "qwen2": {**LLAMA, "family": "qwen2", "tie_word_embeddings": True},
}


def case(program, name, model, place):
    (place / "rows.tsv").write_text("good\tyes\nbad\tno\n")
    run = {"train_batch_size": 1, "seed": 3, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}, "model": model,
           "data": {"train": str(place / "rows.tsv"), "sequence_length": 32}, "run": {"steps": 1}}
    (place / "run.json").write_text(json.dumps(run))
    directory = place / name
    subprocess.run([program, "init", place / "run.json", directory], check=True, stdout=subprocess.DEVNULL)
    config = json.loads((directory / "config.json").read_text())
    loaded, report = transformers.AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float64, attn_implementation="eager",
                                                                                     output_loading_info=True)
    assert type(loaded).__name__ == config["architectures"][0], type(loaded)
    assert not any(report.values()), report
    tokens = torch.arange(4 * 12).view(4, 12) * 37 % 250
    mask = torch.ones_like(tokens)
    for row, length in enumerate((12, 7, 1, 10)):
        tokens[row, length:] = config["pad_token_id"]
        mask[row, length:] = 0
    with torch.no_grad():
        logits = loaded.eval()(tokens, attention_mask=mask).logits
    values = (directory / "model.safetensors").read_bytes()
    return {"name": name, "model": model, "config": config, "bytes": len(values), "crc32": zlib.crc32(values), "tokens": tokens.tolist(), "mask": mask.tolist(),
            "logits": [[round(v, 7) for v in row] for row in logits.tolist()]}


with tempfile.TemporaryDirectory() as folder:
    cases = [case(sys.argv[1], name, model, pathlib.Path(folder)) for name, model in MODELS.items()]
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
pathlib.Path(__file__).with_name("exports.json").write_text(f'{{"transformers":"{transformers.__version__}","cases":[\n{lines}\n]}}\n')
