"""Prints the constants of gpt2_reference_test.cpp: Hugging Face's GPT2LMHeadModel (transformers, torch, float64) on a tiny configuration whose weights are
0.3 sin(0.37 i) + (1 for norm gains), rounded to float32, i being the global element index in the order of named_parameters().

  python tests/models/reference/gpt2.py
"""
import torch
import transformers


def run(tied, mask=None):
    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, n_positions=7, vocab_size=11, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                     tie_word_embeddings=tied, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).double().train()
    first = 0
    with torch.no_grad():
        for name, p in model.named_parameters():
            i = torch.arange(first, first + p.numel(), dtype=torch.float64)
            p.copy_((0.3 * torch.sin(0.37 * i) + (1.0 if ("ln_" in name and name.endswith("weight")) else 0.0)).float().view(p.shape))
            first += p.numel()
    tokens = (torch.arange(12) * 5 % 11).view(2, 6)
    labels = (torch.arange(12) * 7 % 11).view(2, 6)
    labels[0, 2] = -100
    if mask is not None:
        labels[mask == 0] = -100
    logits = model(tokens, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss.backward()
    print(f"// tied {tied}, mask {mask is not None}, elements {first}, transformers {transformers.__version__}")
    print("logits", [round(v, 7) for v in logits[1, 5, :4].tolist()], "sum", round(logits.sum().item(), 6))
    print("loss", round(loss.item(), 6))
    for name, p in model.named_parameters():
        g = p.grad
        weights = torch.cos(0.11 * torch.arange(g.numel(), dtype=torch.float64))
        print(f'{{"{name}", {g.norm().item():.7g}, {(g.flatten() * weights).sum().item():.7g}}},')


run(True)
run(False)
m = torch.ones(2, 6, dtype=torch.long)
m[0, 0] = m[1, 3] = 0
run(True, m)
