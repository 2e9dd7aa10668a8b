#include "runtime/config/schema.h"

namespace zerostep::schema {
namespace {

constexpr auto H = List::Honoured;
constexpr auto A = List::Accepted;
constexpr auto R = List::Refused;

constexpr std::string_view kLlama = "llama|qwen2", kLayered = "llama|qwen2|bert";
constexpr std::string_view kNotUsed = "training does not use it";

const Key kKeys[] = {
    {"model.preset", H, choice("gpt2-20M|gpt2-200M|gpt2-500M|gpt2-800M|gpt2-1B"), "",
     "a GPT-2 of known sizes; a size given beside it wins"},
    {"model.path", H, text(), "", "a Hugging Face directory: sizes, first values and, where it holds one, the tokenizer come from it"},
    {"model.family", H, choice("gpt2|llama|qwen2|bert"), "\"gpt2\"", "kind of model; sizes have the names of its Hugging Face config.json"},
    {"model.n_layer", H, integer(1, 100000), "", "transformer blocks", "", "gpt2"},
    {"model.n_embd", H, integer(1, 1000000), "", "width", "", "gpt2"},
    {"model.n_head", H, integer(1, 1000000), "", "attention heads; they divide the width", "", "gpt2"},
    {"model.n_positions", H, integer(1, 100000000), "", "longest sequence", "", "gpt2"},
    {"model.n_inner", H, or_null(integer(1, 10000000)), "", "width inside the MLP; 4 n_embd where it is missing", "", "gpt2"},
    {"model.num_hidden_layers", H, integer(1, 100000), "", "transformer layers", "", kLayered},
    {"model.hidden_size", H, integer(1, 1000000), "", "width", "", kLayered},
    {"model.intermediate_size", H, integer(1, 10000000), "", "width inside the MLP", "", kLayered},
    {"model.num_attention_heads", H, integer(1, 1000000), "", "attention heads of queries", "", kLayered},
    {"model.num_key_value_heads", H, or_null(integer(1, 1000000)), "",
     "attention heads of keys and values; num_attention_heads where it is missing", "", kLlama},
    {"model.head_dim", H, or_null(integer(2, 1000000)), "", "width of a head; hidden_size / num_attention_heads where it is missing", "",
     kLlama},
    {"model.max_position_embeddings", H, integer(1, 100000000), "", "longest sequence", "", kLayered},
    {"model.rms_norm_eps", H, number_above(0), "1e-06", "added to the mean square in RMSNorm", "", kLlama},
    {"model.rope_theta", H, number_above(0), "10000.0", "base of the rotary positions' wavelengths", "", kLlama},
    {"model.rope_scaling", H, or_null(anything()), "", "stretches rotary positions: rope_type linear or llama3 and its numbers", "",
     kLlama},
    {"model.rope_parameters", H, or_null(anything()), "", "rope_theta and rope_scaling in one block, as transformers 5 writes them", "",
     kLlama},
    {"model.attention_bias", H, boolean(), "false", "biases on queries, keys, values and the output of attention", "", "llama"},
    {"model.vocab_size", H, integer(1, 100000000), "", "vocabulary; the tokenizer's where it is missing"},
    {"model.layer_norm_eps", H, number_above(0), "1e-12", "added to the variance in LayerNorm", "", "bert"},
    {"model.type_vocab_size", H, integer(1, 1000), "2", "kinds of tokens that the embedding knows", "", "bert"},
    {"model.num_labels", H, integer(2, 100000), "", "classes; those of config.json, or 2, where it is missing", "", "bert"},
    {"model.classifier_pooling", H, choice("cls|mean"), "",
     "what the classifier sees: the first token through the pooler, or the mean of all tokens; cls where neither this nor config.json says",
     "", "bert"},
    {"model.fresh_classifier", H, boolean(), "false",
     "beside model.path: the classifier starts from first values, whatever the directory holds (of other classes, say)", "", "bert"},
    {"model.hidden_dropout_prob", H, share(), "", "dropout of embeddings, attention and MLP", "", "bert"},
    {"model.attention_probs_dropout_prob", H, share(), "", "dropout of attention weights", "", "bert"},
    {"model.dropout", H, share(), "", "sets resid_pdrop, embd_pdrop and attn_pdrop, or both dropouts of a BERT; other families have none"},
    {"model.resid_pdrop", H, share(), "", "dropout after attention and MLP", "", "gpt2"},
    {"model.embd_pdrop", H, share(), "", "dropout after the embedding", "", "gpt2"},
    {"model.attn_pdrop", H, share(), "", "dropout of attention weights", "", "gpt2"},
    {"model.layer_norm_epsilon", H, number_above(0), "1e-05", "added to the variance in LayerNorm", "", "gpt2"},
    {"model.initializer_range", H, number(0), "0.02", "standard deviation of initial weights"},
    {"model.tie_word_embeddings", H, boolean(), "",
     "the head shares the weights of the token embedding; true for gpt2 and false for the others where it is missing"},
    {"model.trainable", H, texts(), "[]", "patterns of names of parameters to train, the rest is frozen; empty trains all"},
    {"model.task", H, choice("causal_lm|classification"), "",
     "what the model predicts: the next token, or the class of a text (a BERT does, and any model with data.template)"},
    {"model.activation_function", R, text(), "", "GPT-2's tanh GELU is the only activation: use \"gelu_new\" or leave it out",
     "[\"gelu_new\", \"gelu_pytorch_tanh\"]"},
    {"model.scale_attn_weights", R, boolean(), "", "attention is always scaled: leave it true", "[true]"},
    {"model.scale_attn_by_inverse_layer_idx", R, boolean(), "", "scores are scaled by the head width alone: leave it false", "[false]"},
    {"model.reorder_and_upcast_attn", A, boolean(), "", "attention chooses its own precision"},
    {"model.use_cache", A, boolean(), "", kNotUsed},
    {"model.bos_token_id", H, or_null(integer(0)), "", "for exports: training separates documents by the tokenizer's own token"},
    {"model.eos_token_id", H, or_null(integer(0)), "", "for exports: training separates documents by the tokenizer's own token"},
    {"model.hidden_act", R, text(), "", "SwiGLU's silu is the only activation: leave it out", "[\"silu\", \"swish\"]", kLlama},
    {"model.mlp_bias", R, boolean(), "", "the MLP has no biases: leave it false", "[false]", kLlama},
    {"model.attention_dropout", R, share(), "", "this attention has no dropout: leave it 0", "[0.0]", kLlama},
    {"model.use_sliding_window", R, boolean(), "", "attention sees the whole sequence: leave it false", "[false]", "qwen2"},
    {"model.torch_dtype", R, text(), "", "the type of compute is that of fp16 or bf16, else fp32", "[\"float32\"]"},
    {"model.dtype", R, text(), "", "the type of compute is that of fp16 or bf16, else fp32", "[\"float32\"]"},

    {"data.train", H, texts(), "[]",
     "files or globs to train on: .txt, .jsonl or .bin; .tsv, .csv or .jsonl with a label a row for classification"},
    {"data.eval", H, texts(), "[]", "the same, to evaluate on"},
    {"data.tokenizer", H, text(), "\"byte\"",
     "\"byte\", or a tokenizer.json, a vocab.json with merges.txt beside it, a vocab.txt, or a folder that holds one"},
    {"data.sequence_length", H, integer(1, 100000000), "", "tokens of a sample; the model's n_positions where it is missing"},
    {"data.text_field", H, text(), "\"text\"", ".jsonl, and tables of classification: the field or column that holds the text"},
    {"data.join_fields", H, texts(), "[]", ".jsonl: further fields, joined to the text with a newline"},
    {"data.missing", H, choice("error|skip"), "\"error\"",
     ".jsonl: a row without text_field or one of join_fields, or with null there, is an error, or is left out and counted"},
    {"data.max_samples", H, integer(0), "0", "use only the first so many samples; 0 uses all"},
    {"data.shuffle", H, boolean(), "true", "a new order every epoch; false keeps the files' order"},
    {"data.cache", H, text(), "", "folder of tokenized files; <run.output_dir>/.cache where it is missing"},
    {"data.label_field", H, text(), "\"label\"", "classification: the column or field of the label; digits are a column's position from 0"},
    {"data.template", H, text(), "",
     "classification by a prompt: a text with {text} and, after it, {label}, which the model fills with one of data.label_words"},
    {"data.label_words", H, anything(), "", "the words of the labels: {\"LABEL\": \"word\", ...}, or a list in the order of the labels"},
    {"data.bp_train", H, texts(), "[]", "step.bp_data \"own\": files for the backprop steps, like data.train"},

    {"run.name", H, text(), "", "folder of the run below output_dir; made of mode, date and time of the start where it is missing"},
    {"run.overwrite", H, boolean(), "false",
     "begin anew in a folder that holds a run, whose files go, and write over a model in train --save-model; false refuses both (train "
     "--overwrite sets it)"},
    {"run.output_dir", H, text(), "\"runs\"", "where runs lie"},
    {"run.steps", H, or_null(integer(1)), "", "updates in all, resumed or not"},
    {"run.epochs", H, or_null(number_above(0)), "", "passes over the corpus, instead of steps; 1 where neither is given"},
    {"run.eval_interval", H, integer(0), "0", "evaluate every so many steps; 0 never does"},
    {"run.eval_samples", H, integer(0), "0", "samples of an evaluation, spread evenly over data.eval; 0 takes all"},
    {"run.device", H, choice("auto|cpu", "cuda"), "\"auto\"", "where ranks compute"},
    {"run.device_memory", H, integer(0), "0", "bytes that a rank may use, planned and while it runs; 0 is what the machine has"},
    {"run.trace", H, boolean(), "false", "write a Chrome trace of every action of the plan"},
    {"run.collective_timeout_seconds", H, number_above(0), "600.0", "longest wait for the other ranks"},
    {"run.checkpoint_interval", H, integer(0), "0", "write a checkpoint every so many steps, and at the end; 0 writes none"},
    {"run.keep_checkpoints", H, integer(2), "2", "how many of the newest checkpoints stay"},
    {"run.keep_best", H, boolean(), "false",
     "write a checkpoint at each evaluation with a lower loss than all before, and keep the last of these"},
    {"run.resume_anyway", H, boolean(), "false",
     "--resume: go on although tokenizer, data, seed, batch sizes, sequence length or precision are others than the checkpoint's"},

    {"checkpoint.on_error", H, choice("end|continue"), "\"end\"", "what a run does when a checkpoint cannot be written"},
    {"checkpoint.tag_validation", A, text(), "", "folders of checkpoints are named by their step, on every rank alike"},
    {"checkpoint.load_universal", A, boolean(), "", "every checkpoint is re-sliced for the ranks and the stage that load it"},
};

}  // namespace

void add_own_keys(std::vector<Key>& keys) { keys.insert(keys.end(), std::begin(kKeys), std::end(kKeys)); }

}  // namespace zerostep::schema
