"""The runs that the stages make: configurations as dictionaries, and data for them."""
import array
import os
import random
import struct

LENGTH = 64  # tokens of a sample of the small models
SMALL_MODELS = {
    "gpt2": {"family": "gpt2", "n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": LENGTH, "vocab_size": 257},
    "llama": {"family": "llama", "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": LENGTH, "vocab_size": 257},
    "bert": {"family": "bert", "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4,
             "max_position_embeddings": LENGTH, "classifier_pooling": "mean", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
SHAPE_1B = {"n_layer": 32, "n_embd": 1600, "n_head": 25, "n_positions": 1024, "vocab_size": 50304}
MODEL_1B = {"family": "gpt2", **SHAPE_1B}
PARAMETERS_1B = 50304 * 1600 + 1024 * 1600 + 32 * (12 * 1600 * 1600 + 13 * 1600) + 2 * 1600
MODEL_7B = {"family": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
            "max_position_embeddings": 2048, "vocab_size": 32000}
PARAMETERS_7B = 2 * 32000 * 4096 + 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096) + 4096
FIRST_ORDER = {"batch": 16, "length": 1024, "steps": 12}  # of the run that is timed
ADAMW = {"type": "AdamW", "params": {"lr": 1e-3}}


def write_data(folder):
    """Words for language models, sentences with labels for BERT; the same at every call."""
    chosen = random.Random(7)
    words = "the of and to in is that for it as was with be by on not he this are or his from at which but have an had they you".split()
    text, rows = os.path.join(folder, "words.txt"), os.path.join(folder, "sentences.tsv")
    if not os.path.exists(rows):
        with open(text, "w") as file:
            file.write(" ".join(chosen.choice(words) for _ in range(20000)))
        with open(rows, "w") as file:
            for _ in range(256):
                sentence = [chosen.choice(words) for _ in range(chosen.randint(3, 10))]
                file.write(" ".join(sentence) + f"\t{int('the' in sentence)}\n")
    return text, rows


def write_tokens(folder, count, vocabulary):
    """`count` random tokens as a .bin file of 16-bit tokens."""
    path = os.path.join(folder, f"tokens-{vocabulary}-{count}.bin")
    if not os.path.exists(path):
        chosen = random.Random(7)
        with open(path + ".part", "wb") as file:
            file.write(struct.pack("<256i", 20240520, 1, count, *[0] * 253))
            array.array("H", (chosen.randrange(vocabulary) for _ in range(count))).tofile(file)
        os.replace(path + ".part", path)
    return path


def small(folder, model, mode, precision, ranks=1, stage=0):
    """10 steps of a small model; mode "fo" or "zo". On one rank a checkpoint after the first step holds a tenth of the gradient: Adam's first moment."""
    text, rows = write_data(folder)
    config = {"train_batch_size": 8 // ranks * ranks, "train_micro_batch_size_per_gpu": 8 // ranks, "seed": 3, "gradient_clipping": 0, "steps_per_print": 10,
              "optimizer": ADAMW, "zero_optimization": {"stage": stage}, "model": SMALL_MODELS[model],
              "data": {"train": rows if model == "bert" else text, "sequence_length": LENGTH},
              "run": {"steps": 10}}
    if model != "bert":
        config["data"]["tokenizer"] = "byte"
    if precision != "fp32":
        config[precision] = {"enabled": True}
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    if mode == "zo":
        config.update(step={"mode": "zo", "queries": 4}, optimizer={"type": "SGD", "params": {"lr": 1e-4}})
    elif ranks == 1:
        config["run"].update(checkpoint_interval=1, keep_checkpoints=20)
    return config


def first_order(folder, batch, length, steps, model=MODEL_1B, trace=False):
    """AdamW on a model (that of 1B parameters) in bf16, `steps` steps of one micro-batch of `batch` samples of `length` tokens."""
    return {"train_batch_size": batch, "seed": 3, "gradient_clipping": 0, "steps_per_print": 1, "bf16": {"enabled": True}, "optimizer": ADAMW,
            "zero_optimization": {"stage": 0}, "model": model,
            "data": {"train": write_tokens(folder, batch * steps * length + length, model["vocab_size"]), "sequence_length": length},
            "run": {"steps": steps, "trace": trace}}


def zeroth_order(folder, model, batch, length, queries, perturbation, steps, host=False):
    """SGD by queries in bf16, weights of 16 bit alone; `host`: they rest in memory of the host, and all directions share each reading of them, which
    is traced."""
    zero = {"stage": 3, "offload_param": {"device": "cpu"}, "stage3_param_persistence_threshold": 0} if host else {"stage": 0}
    step = {"mode": "zo", "queries": queries, "perturbation": perturbation, "master_weights": "none", **({"queries_per_pass": queries} if host else {})}
    return {"train_batch_size": batch, "seed": 3, "steps_per_print": 1, "bf16": {"enabled": True},
            "optimizer": {"type": "SGD", "params": {"lr": 1e-6}}, "zero_optimization": zero, "model": model,
            "data": {"train": write_tokens(folder, batch * steps * length + length, model["vocab_size"]), "sequence_length": length},
            "step": step, "run": {"steps": steps, "trace": host}}
