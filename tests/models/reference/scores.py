"""Writes scores.json beside this file: Hugging Face's GPT2ForSequenceClassification, LlamaForSequenceClassification and Qwen2ForSequenceClassification
(transformers, torch, float64) on tiny configurations whose weights are 0.3 sin(0.37 i) + (1 for norm gains), rounded to float32, i being the global element
index in the order of named_parameters(). Samples end in tokens of padding (0), with a mask that hides them or without one; of the model without a
pad_token_id there is one sample. (No row of a table is that of padding here: transformers gives it no gradient wherever it stands.) For each: config.json as
transformers writes it, tokens, mask, names and shapes of the parameters, logits, loss, and each gradient's norm and projection on cos(0.11 i).

  python tests/models/reference/scores.py
"""
import json
import pathlib

import torch
import transformers

GPT2 = dict(vocab_size=23, n_embd=24, n_layer=2, n_head=3, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
LLAMA = dict(vocab_size=23, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=16,
             attn_implementation="eager")


def run(name, family, masked, samples=3, **changes):
    model_class = getattr(transformers, f"{family}ForSequenceClassification")
    config = getattr(transformers, f"{family}Config")(**{**(GPT2 if family == "GPT2" else LLAMA), "bos_token_id": 1, "eos_token_id": 2, **changes})
    model = model_class(config).double().train()
    first = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    with torch.no_grad():
        for parameter, p in model.named_parameters():
            i = torch.arange(first, first + p.numel(), dtype=torch.float64)
            gain = ("ln_" in parameter or "norm" in parameter) and parameter.endswith("weight")
            p.copy_((0.3 * torch.sin(0.37 * i) + (1.0 if gain else 0.0)).float().view(p.shape))
            first += p.numel()
    length = 9
    tokens = (torch.arange(samples * length) * 5 % 22 + 1).view(samples, length)
    mask = torch.ones(samples, length, dtype=torch.long)
    if samples > 1:
        tokens[0, 7:] = tokens[2, 4:] = 0
        mask = (tokens != 0).long()
        tokens[1, 3] = 0  # padding within a text is read as any token
        mask[1, 3] = 1
    labels = torch.tensor([1, 0, 1])[:samples] % model.config.num_labels
    logits = model(tokens, attention_mask=mask if masked else None).logits
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    parameters = []
    for parameter, p in model.named_parameters():
        g = p.grad.flatten()
        projection = (g * torch.cos(0.11 * torch.arange(g.numel(), dtype=torch.float64))).sum().item()
        parameters.append(dict(name=parameter, shape=list(p.shape), norm=float(f"{g.norm().item():.8g}"), projection=float(f"{projection:.8g}")))
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [model_class.__name__]
    return dict(name=name, config=config, tokens=tokens.tolist(), mask=mask.tolist() if masked else None, labels=labels.tolist(), loss=round(loss.item(), 7),
                logits=[[round(v, 7) for v in row] for row in logits.tolist()], parameters=parameters)


cases = [
    run("gpt2", "GPT2", True, pad_token_id=0),
    run("gpt2_unmasked", "GPT2", False, pad_token_id=0, num_labels=4),
    run("gpt2_without_padding", "GPT2", False, samples=1, pad_token_id=None),
    run("llama", "Llama", True, pad_token_id=0, num_labels=3),
    run("llama_unmasked", "Llama", False, pad_token_id=0),
    run("qwen2", "Qwen2", True, pad_token_id=0, tie_word_embeddings=True),
]
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
pathlib.Path(__file__).with_name("scores.json").write_text(f'{{"transformers":"{transformers.__version__}","cases":[\n{lines}\n]}}\n')
