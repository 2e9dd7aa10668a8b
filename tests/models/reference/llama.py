"""Writes llama.json beside this file: Hugging Face's LlamaForCausalLM and Qwen2ForCausalLM (transformers, torch, float64) on tiny configurations whose weights
are 0.3 sin(0.37 i) + (1 for norm gains), rounded to float32, i being the global element index in the order of named_parameters(). For each: config.json as
transformers writes it, names and shapes of the parameters, logits, loss, and each gradient's norm and projection on cos(0.11 i).

  python tests/models/reference/llama.py
"""
import json
import pathlib

import torch
import transformers

SIZES = dict(vocab_size=23, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
             max_position_embeddings=64, attn_implementation="eager")
LLAMA3 = dict(rope_type="llama3", rope_theta=50.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=24)


def run(name, make, padded=False, **changes):
    config_class, model_class = make
    model = model_class(config_class(**{**SIZES, **changes})).double().train()
    first = 0
    with torch.no_grad():
        for parameter, p in model.named_parameters():
            i = torch.arange(first, first + p.numel(), dtype=torch.float64)
            p.copy_((0.3 * torch.sin(0.37 * i) + (1.0 if "norm" in parameter else 0.0)).float().view(p.shape))
            first += p.numel()
    samples, length = 2, 9
    tokens = (torch.arange(samples * length) * 5 % 23).view(samples, length)
    labels = (torch.arange(samples * length) * 7 % 23).view(samples, length)
    labels[0, 2] = -100
    mask = torch.ones(samples, length, dtype=torch.long)
    if padded:
        mask[1, 6:] = 0
        labels[mask == 0] = -100
    logits = model(tokens, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss.backward()
    parameters = []
    for parameter, p in model.named_parameters():
        g = p.grad.flatten()
        projection = (g * torch.cos(0.11 * torch.arange(g.numel(), dtype=torch.float64))).sum().item()
        parameters.append(dict(name=parameter, shape=list(p.shape), norm=float(f"{g.norm().item():.8g}"), projection=float(f"{projection:.8g}")))
    return dict(name=name, padded=padded, config=json.loads(model.config.to_json_string()), loss=round(loss.item(), 7),
                logits=[[round(v, 6) for v in row] for row in logits[:, ::4].flatten(0, 1).tolist()], parameters=parameters)


llama = (transformers.LlamaConfig, transformers.LlamaForCausalLM)
qwen2 = (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)
cases = [
    run("llama", llama),
    run("llama3_tied", llama, tie_word_embeddings=True, rope_parameters=LLAMA3, num_key_value_heads=6),
    run("llama3_biases", llama, rope_parameters=LLAMA3, attention_bias=True, head_dim=10, padded=True),
    run("linear", llama, rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=2.0), num_key_value_heads=1),
    run("qwen2", qwen2, rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
    run("qwen2_tied", qwen2, tie_word_embeddings=True, padded=True),
]
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
pathlib.Path(__file__).with_name("llama.json").write_text(f'{{"transformers":"{transformers.__version__}","cases":[\n{lines}\n]}}\n')
