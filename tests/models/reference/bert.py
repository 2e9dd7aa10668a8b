"""Writes bert.json beside this file: Hugging Face's BertForSequenceClassification (transformers, torch, float64) on tiny configurations whose weights are
0.3 sin(0.37 i) + (1 for norm gains), rounded to float32, i being the global element index in the order of named_parameters(); BertModel without a pooler
whose masked mean a linear layer classifies; BertForMaskedLM; and the same of RoBERTa and DistilBERT. (No row of a table is that of padding here:
transformers gives it no gradient wherever it stands. A RoBERTa's positions are counted by its token all the same.) For each: config.json as transformers
writes it, names and shapes of the parameters, logits, loss, and each gradient's norm and projection on cos(0.11 i).

  python tests/models/reference/bert.py
"""
import json
import pathlib

import torch
import transformers

BERT = dict(vocab_size=23, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=16, type_vocab_size=2,
            pad_token_id=None, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")
SIZES = {
    "Bert": BERT,
    "Roberta": {**BERT, "pad_token_id": 1, "type_vocab_size": 1},
    "DistilBert": dict(vocab_size=23, dim=24, hidden_dim=20, n_layers=2, n_heads=3, max_position_embeddings=16, pad_token_id=None, dropout=0.0,
                       attention_dropout=0.0, seq_classif_dropout=0.0, attn_implementation="eager"),
}


class MeanClassifier(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, tokens, attention_mask, token_type_ids):
        hidden = self.bert(tokens, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        weights = attention_mask.to(hidden.dtype).unsqueeze(2)
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.classifier((hidden * weights).sum(1) / weights.sum(1)))


def run(name, model_class, padded, typed, **changes):
    family = next((f for f in ("Roberta", "DistilBert") if model_class.__name__.startswith(f)), "Bert")
    model = model_class(getattr(transformers, f"{family}Config")(**{**SIZES[family], **changes})).double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    first = 0
    with torch.no_grad():
        for parameter, p in model.named_parameters():
            i = torch.arange(first, first + p.numel(), dtype=torch.float64)
            gain = parameter.lower().endswith(("layernorm.weight", "layer_norm.weight"))
            p.copy_((0.3 * torch.sin(0.37 * i) + (1.0 if gain else 0.0)).float().view(p.shape))
            first += p.numel()
    samples, length = 3, 9
    tokens = (torch.arange(samples * length) * 5 % 23).view(samples, length)
    predicts_words = model_class.__name__.endswith("ForMaskedLM")
    labels = tokens * 2 % 23 if predicts_words else torch.tensor([1, 0, 1]) % model.config.num_labels
    mask = torch.ones(samples, length, dtype=torch.long)
    if padded:
        mask[0, 7:] = 0
        mask[2, 4:] = 0
    types = torch.zeros_like(tokens)
    if typed:
        types[:, 3:] = 1
    logits = model(tokens, attention_mask=mask, **({} if family == "DistilBert" else {"token_type_ids": types})).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    loss.backward()
    parameters = []
    for parameter, p in model.named_parameters():
        g = p.grad.flatten()
        projection = (g * torch.cos(0.11 * torch.arange(g.numel(), dtype=torch.float64))).sum().item()
        parameters.append(dict(name=parameter, shape=list(p.shape), norm=float(f"{g.norm().item():.8g}"), projection=float(f"{projection:.8g}")))
    config = json.loads(model.config.to_json_string())
    if model_class is not MeanClassifier:
        config["architectures"] = [model_class.__name__]
    if model_class is MeanClassifier:
        config["classifier_pooling"] = "mean"
    return dict(name=name, padded=padded, typed=typed, config=config, loss=round(loss.item(), 7),
                logits=[[round(v, 7) for v in row] for row in logits.flatten(0, -2)[:: 4 if predicts_words else 1].tolist()], parameters=parameters)


cases = [
    run("pooler", transformers.BertForSequenceClassification, False, False),
    run("pooler_padded_typed", transformers.BertForSequenceClassification, True, True, num_labels=3),
    run("mean", MeanClassifier, True, False, num_labels=4, layer_norm_eps=1e-5),
    run("words_padded", transformers.BertForMaskedLM, True, False),
    run("roberta", transformers.RobertaForSequenceClassification, True, False, num_labels=3),
    run("roberta_typed", transformers.RobertaForSequenceClassification, False, True, type_vocab_size=2, pad_token_id=4),
    run("roberta_words", transformers.RobertaForMaskedLM, True, False),
    run("distilbert", transformers.DistilBertForSequenceClassification, True, False, num_labels=3),
    run("distilbert_words", transformers.DistilBertForMaskedLM, True, False),
]
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
pathlib.Path(__file__).with_name("bert.json").write_text(f'{{"transformers":"{transformers.__version__}","cases":[\n{lines}\n]}}\n')
