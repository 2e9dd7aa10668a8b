#include "runtime/config/schema.h"

namespace zerostep::schema {
namespace {

constexpr auto H = List::Honoured;
constexpr auto A = List::Accepted;
constexpr auto R = List::Refused;

constexpr std::string_view kNoClassification = "classification is not in this version: train with task \"causal_lm\"";
constexpr std::string_view kOtherName = "a name of another family";
constexpr std::string_view kNotUsed = "training does not use it";

const Key kKeys[] = {
    {"model.preset", H, choice("gpt2-20M|gpt2-200M|gpt2-500M|gpt2-800M|gpt2-1B"), "",
     "a GPT-2 of known sizes; a size given beside it wins"},
    {"model.family", H, choice("gpt2", "llama|bert"), "\"gpt2\"", "kind of model; sizes have the names of its Hugging Face config.json"},
    {"model.n_layer", H, integer(1, 100000), "", "transformer blocks"},
    {"model.n_embd", H, integer(1, 1000000), "", "width"},
    {"model.n_head", H, integer(1, 1000000), "", "attention heads; they divide the width"},
    {"model.n_positions", H, integer(1, 100000000), "", "longest sequence"},
    {"model.n_inner", H, or_null(integer(1, 10000000)), "", "width inside the MLP; 4 n_embd where it is missing"},
    {"model.vocab_size", H, integer(1, 100000000), "", "vocabulary; the tokenizer's where it is missing"},
    {"model.dropout", H, share(), "", "sets resid_pdrop, embd_pdrop and attn_pdrop"},
    {"model.resid_pdrop", H, share(), "", "dropout after attention and MLP"},
    {"model.embd_pdrop", H, share(), "", "dropout after the embedding"},
    {"model.attn_pdrop", H, share(), "", "dropout of attention weights"},
    {"model.layer_norm_epsilon", H, number_above(0), "1e-05", "added to the variance in LayerNorm"},
    {"model.initializer_range", H, number(0), "0.02", "standard deviation of initial weights"},
    {"model.tie_word_embeddings", H, boolean(), "true", "the head shares the weights of the token embedding"},
    {"model.trainable", H, texts(), "[]", "patterns of names of parameters to train, the rest is frozen; empty trains all"},
    {"model.task", H, choice("causal_lm", "classification"), "\"causal_lm\"", "what the model predicts"},
    {"model.path", R, text(), "", "reading a Hugging Face directory is not in this version: give a preset, or family and sizes"},
    {"model.num_labels", R, integer(1), "", kNoClassification},
    {"model.activation_function", R, text(), "", "GPT-2's tanh GELU is the only activation: use \"gelu_new\" or leave it out",
     "[\"gelu_new\", \"gelu_pytorch_tanh\"]"},
    {"model.scale_attn_weights", R, boolean(), "", "attention is always scaled: leave it true", "[true]"},
    {"model.scale_attn_by_inverse_layer_idx", R, boolean(), "", "scores are scaled by the head width alone: leave it false", "[false]"},
    {"model.reorder_and_upcast_attn", A, boolean(), "", "attention chooses its own precision"},
    {"model.use_cache", A, boolean(), "", kNotUsed},
    {"model.bos_token_id", A, or_null(integer(0)), "", "documents end with the tokenizer's own end-of-document token"},
    {"model.eos_token_id", A, or_null(integer(0)), "", "documents end with the tokenizer's own end-of-document token"},
    {"model.hidden_size", R, integer(1), "", "a name of another family: GPT-2's is n_embd"},
    {"model.num_hidden_layers", R, integer(1), "", "a name of another family: GPT-2's is n_layer"},
    {"model.num_attention_heads", R, integer(1), "", "a name of another family: GPT-2's is n_head"},
    {"model.max_position_embeddings", R, integer(1), "", "a name of another family: GPT-2's is n_positions"},
    {"model.intermediate_size", R, integer(1), "", "a name of another family: GPT-2's is n_inner"},
    {"model.num_key_value_heads", R, integer(1), "", kOtherName},
    {"model.rope_theta", R, any_number(), "", kOtherName},
    {"model.rope_scaling", R, or_null(anything()), "", kOtherName},
    {"model.rope_parameters", R, or_null(anything()), "", kOtherName},
    {"model.rms_norm_eps", R, any_number(), "", "a name of another family: GPT-2's is layer_norm_epsilon"},
    {"model.type_vocab_size", R, integer(1), "", kOtherName},
    {"model.torch_dtype", R, text(), "", "the type of compute is that of fp16 or bf16, else fp32", "[\"float32\"]"},
    {"model.dtype", R, text(), "", "the type of compute is that of fp16 or bf16, else fp32", "[\"float32\"]"},

    {"data.train", H, texts(), "[]", "files or globs of .txt, .jsonl or .bin to train on"},
    {"data.eval", H, texts(), "[]", "the same, to evaluate on"},
    {"data.tokenizer", H, text(), "\"byte\"",
     "\"byte\", or a tokenizer.json, a vocab.json with merges.txt beside it, a vocab.txt, or a folder that holds one"},
    {"data.sequence_length", H, integer(1, 100000000), "", "tokens of a sample; the model's n_positions where it is missing"},
    {"data.text_field", H, text(), "\"text\"", ".jsonl: the field that holds the text"},
    {"data.join_fields", H, texts(), "[]", ".jsonl: further fields, joined to the text with a newline"},
    {"data.max_samples", H, integer(0), "0", "use only the first so many samples; 0 uses all"},
    {"data.shuffle", H, boolean(), "true", "a new order every epoch; false keeps the files' order"},
    {"data.cache", H, text(), "", "folder of tokenized files; <run.output_dir>/.cache where it is missing"},
    {"data.label_field", R, text(), "", kNoClassification},
    {"data.template", R, text(), "", kNoClassification},
    {"data.label_words", R, anything(), "", kNoClassification},
    {"data.bp_train", H, texts(), "[]", "step.bp_data \"own\": files for the backprop steps, like data.train"},

    {"run.name", H, text(), "\"run\"", "folder of the run below output_dir"},
    {"run.output_dir", H, text(), "\"runs\"", "where runs lie"},
    {"run.steps", H, or_null(integer(0)), "", "updates in all, resumed or not"},
    {"run.epochs", H, or_null(number(0)), "", "passes over the corpus, instead of steps; 1 where neither is given"},
    {"run.eval_interval", H, integer(0), "0", "evaluate every so many steps; 0 never does"},
    {"run.eval_samples", H, integer(0), "0", "samples of an evaluation; 0 takes all"},
    {"run.device", H, choice("auto|cpu", "cuda"), "\"auto\"", "where ranks compute"},
    {"run.device_memory", H, integer(0), "0", "bytes that a rank may use; 0 is what the machine has"},
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
