#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/runtime/support/config_file.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using nlohmann::json;

TEST(Config, Models) {
  struct Case {
    const char* preset;
    int64_t layers, width, heads, positions;
  };
  for (const Case& c : {Case{"gpt2-20M", 6, 256, 4, 512}, Case{"gpt2-200M", 12, 768, 12, 1024}, Case{"gpt2-500M", 24, 1024, 16, 1024},
                        Case{"gpt2-800M", 28, 1536, 24, 1024}, Case{"gpt2-1B", 32, 1600, 25, 1024}}) {
    const Config config = load_tiny({std::string("model={\"preset\": \"") + c.preset + "\"}"}).config;
    EXPECT_EQ(config.model.preset, c.preset);
    EXPECT_EQ(gpt2_of(config).n_layer, c.layers);
    EXPECT_EQ(gpt2_of(config).n_embd, c.width);
    EXPECT_EQ(gpt2_of(config).n_head, c.heads);
    EXPECT_EQ(gpt2_of(config).n_positions, c.positions);
    EXPECT_EQ(gpt2_of(config).vocab_size, 50257);
  }
  EXPECT_EQ(gpt2_of(load_tiny({R"(model={"preset": "gpt2-20M", "vocab_size": 300})"}).config).vocab_size, 300);
  EXPECT_EQ(gpt2_of(load_tiny({"model.vocab_size=null", "data.tokenizer=/a/tokenizer.json"}).config).vocab_size, 0);
  const Gpt2Options dropout = gpt2_of(load_tiny({"model.dropout=0.25", "model.attn_pdrop=0.5"}).config);
  EXPECT_EQ(dropout.resid_pdrop, 0.25);
  EXPECT_EQ(dropout.embd_pdrop, 0.25);
  EXPECT_EQ(dropout.attn_pdrop, 0.5);
  expect_words(tiny_refusal({"model={\"preset\": \"gpt2-2M\"}"}), {"gpt2-2M", "gpt2-20M"});
  expect_words(tiny_refusal({"model={\"n_layer\": 2}"}), {"n_embd, n_head, n_positions", "preset"});
  expect_words(tiny_refusal({"model=null"}), {"model", "preset"});
  expect_words(tiny_refusal({"model.n_head=7"}), {"7", "64"});
  expect_words(tiny_refusal({"model.family=bert"}), {"model.n_layer is no key of model.family \"bert\""});
  expect_words(tiny_refusal({"model.family=gtp2"}), {"gtp2", "the nearest is gpt2"});
  expect_words(tiny_refusal({"model.hidden_size=64"}), {"model.hidden_size is no key of model.family \"gpt2\": expected n_layer, n_embd"});
  expect_words(tiny_refusal({"data.sequence_length=65"}), {"65", "64"});
}

TEST(Config, LlamasHaveTheNamesOfTheirConfigJson) {
  const std::string sizes =
      R"(model={"family": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64})";
  const LoadedConfig loaded = load_tiny({sizes, "model.rope_scaling={\"rope_type\": \"linear\", \"factor\": 2}"});
  const auto& o = std::get<LlamaOptions>(loaded.config.model.options);
  EXPECT_EQ(o.num_hidden_layers, 2);
  EXPECT_EQ(o.intermediate_size, 96);
  EXPECT_EQ(o.num_key_value_heads, 2);
  EXPECT_EQ(o.vocab_size, 257);
  EXPECT_EQ(o.rope.type, RotaryOptions::Type::Linear);
  EXPECT_FALSE(o.tie_word_embeddings);
  EXPECT_EQ(load_text(loaded.resolved_json).resolved_json, loaded.resolved_json);
  expect_words(tiny_refusal({sizes, "model.intermediate_size=null"}), {"lacks intermediate_size"});
  expect_words(tiny_refusal({sizes, "model.n_layer=2"}), {"model.n_layer is no key of model.family \"llama\"", "num_hidden_layers"});
  expect_words(tiny_refusal({sizes, "model.rope_scaling={\"rope_type\": \"yarn\"}"}), {"rope_type is \"yarn\"", "llama3"});
  expect_words(tiny_refusal({sizes, "data.sequence_length=65"}), {"65", "model.max_position_embeddings 64"});
  expect_words(tiny_refusal({sizes, "model.preset=gpt2-20M"}), {"model.preset", "llama"});
}

TEST(Config, ADirectorySaysTheModel) {
  const ScratchFolder scratch;
  const std::filesystem::path& directory = scratch.folder();
  const auto holding = [&](const std::string& text) {
    std::ofstream(directory / "config.json") << text;
    return std::vector<std::string>{fmt::format("model={{\"path\": \"{}\"}}", directory.string())};
  };
  const auto with = [](std::vector<std::string> set, const char* more) {
    set.emplace_back(more);
    return set;
  };
  const std::string llama = R"({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 32, "max_position_embeddings": 64})";
  const LoadedConfig loaded = load_tiny(holding(llama));
  EXPECT_EQ(loaded.config.model.path, directory.string());
  EXPECT_EQ(std::get<LlamaOptions>(loaded.config.model.options).num_hidden_layers, 3);
  EXPECT_EQ(loaded.config.data.tokenizer, "byte");
  expect_words(loaded.labelled_text, {"model.hidden_size = 32   (derived, config.json of model.path)"});
  EXPECT_EQ(load_text(loaded.resolved_json).resolved_json, loaded.resolved_json);
  expect_words(tiny_refusal(with(holding(llama), "model.hidden_size=32")), {"model.hidden_size stands beside model.path"});
  expect_words(tiny_refusal(with(holding(llama), "model.family=llama")), {"model.family stands beside model.path"});
  expect_words(tiny_refusal(with(holding(llama), "model.dropout=0.1")), {"model.dropout", "\"llama\" has none"});
  expect_words(tiny_refusal(with(holding(llama), "data.sequence_length=65")), {"model.max_position_embeddings 64"});
  const std::string gpt2 = R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 64, "attn_pdrop": 0.3})";
  const Gpt2Options dropped = gpt2_of(load_tiny(with(holding(gpt2), "model.resid_pdrop=0.2")).config);
  EXPECT_EQ(dropped.resid_pdrop, 0.2);
  EXPECT_EQ(dropped.embd_pdrop, 0.1);
  EXPECT_EQ(dropped.attn_pdrop, 0.3);
  EXPECT_EQ(dropped.vocab_size, 50257);
  expect_words(tiny_refusal(holding(R"({"model_type": "mamba"})")), {"model.path", "config.json", "mamba", "llama"});
  std::ofstream(directory / "tokenizer.json") << "{}";
  auto without = holding(gpt2);
  without.emplace_back("data.tokenizer=null");
  EXPECT_EQ(load_tiny(without).config.data.tokenizer, directory.string());
  expect_words(tiny_refusal({"model={\"path\": \"/no/where\"}"}), {"model.path", "'/no/where' is not a directory"});
}

TEST(Config, AFreshClassifierIsAskedForBesideADirectory) {
  const ScratchFolder scratch;
  const std::string directory = scratch.folder().string();
  std::ofstream(scratch.path("config.json")) << R"({"model_type": "bert", "id2label": {"0": "no", "1": "so-so", "2": "yes"}})";
  std::ofstream(scratch.path("vocab.txt")) << "";
  const auto options = [&](const std::string& more, const std::vector<std::string>& set = {}) {
    std::vector<std::string> all{"model={\"path\": \"" + directory + "\"" + more + "}", "data.train=rows.tsv"};
    all.insert(all.end(), set.begin(), set.end());
    return all;
  };
  const LoadedConfig as_it_is = load_tiny(options(""));
  EXPECT_FALSE(as_it_is.config.model.fresh_classifier);
  EXPECT_EQ(std::get<BertOptions>(as_it_is.config.model.options).class_names, (std::vector<std::string>{"no", "so-so", "yes"}));
  const LoadedConfig fresh = load_tiny(options(", \"fresh_classifier\": true"));
  EXPECT_TRUE(fresh.config.model.fresh_classifier);
  EXPECT_EQ(std::get<BertOptions>(fresh.config.model.options).num_labels, 3);
  EXPECT_TRUE(std::get<BertOptions>(fresh.config.model.options).class_names.empty()) << "names are of the classifier that goes";
  EXPECT_EQ(load_text(fresh.resolved_json).resolved_json, fresh.resolved_json);
  const std::string sizes =
      R"(model={"family": "bert", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,)"
      R"( "max_position_embeddings": 64)";
  const LoadedConfig of_sizes = load_tiny({sizes + "}"});
  EXPECT_EQ(load_text(of_sizes.resolved_json).resolved_json, of_sizes.resolved_json) << "its default is written, and read again";
  expect_words(tiny_refusal({sizes + R"(, "fresh_classifier": true})"}), {"model.fresh_classifier", "without model.path"});
  expect_words(tiny_refusal(options(", \"fresh_classifier\": true", {"data.template={text} {label}", "data.label_words=[\"a\", \"b\"]"})),
               {"model.fresh_classifier", "data.label_words are the classes"});
}

TEST(Config, ADirectoryWithoutATokenizerIsSaid) {
  const ScratchFolder scratch;
  const auto warnings = [&](const char* config, const std::vector<std::string>& set) {
    std::ofstream(scratch.path("config.json")) << config;
    std::vector<std::string> all{"model={\"path\": \"" + scratch.folder().string() + "\"}", "data.tokenizer=null"};
    all.insert(all.end(), set.begin(), set.end());
    std::string text;
    for (const std::string& warning : load_tiny(all).warnings) text += warning + "\n";
    return text;
  };
  constexpr const char* kGpt2 = R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 64})";
  constexpr const char* kBytes = R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 64, "vocab_size": 257})";
  expect_words(warnings(kGpt2, {}), {"holds no tokenizer", "bytes", "50257", "data.tokenizer"});
  expect_words(warnings(kGpt2, {"data.train=a.bin", "data.eval=b.txt"}), {"holds no tokenizer"});
  for (const std::string& said : {warnings(kBytes, {}), warnings(kGpt2, {"data.train=a.bin"}), warnings(kGpt2, {"data.tokenizer=byte"})})
    EXPECT_EQ(said.find("tokenizer"), std::string::npos) << said;
}

TEST(Config, ClassificationIsWhatABertDoes) {
  const std::string bert =
      R"(model={"family": "bert", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,)"
      R"( "max_position_embeddings": 64)";
  for (const char* task : {"", R"(, "task": "classification")"}) {
    const LoadedConfig loaded = load_tiny({bert + task + "}"});
    EXPECT_TRUE(loaded.config.model.classifies);
    const auto& options = std::get<BertOptions>(loaded.config.model.options);
    EXPECT_EQ(options.num_labels, 2);
    EXPECT_EQ(options.hidden_dropout_prob, 0);
    EXPECT_EQ(options.vocab_size, 257);
  }
  EXPECT_FALSE(load_tiny({}).config.model.classifies);
  const auto dropout = std::get<BertOptions>(load_tiny({bert + R"(, "dropout": 0.25, "num_labels": 7})"}).config.model.options);
  EXPECT_EQ(dropout.attention_probs_dropout_prob, 0.25);
  EXPECT_EQ(dropout.num_labels, 7);
  expect_words(tiny_refusal({bert + R"(, "task": "causal_lm"})"}), {"model.task", "predicts no next token"});
  expect_words(tiny_refusal({bert + "}", "step.mode=calibrate", "step.bp_interval=2", "step.bp_data=split"}), {"step.bp_data", "split"});
}

TEST(Config, EncodersHaveTheNamesOfTheirConfigJson) {
  const std::string distilbert =
      R"(model={"family": "distilbert", "n_layers": 2, "dim": 64, "hidden_dim": 96, "n_heads": 4, "max_position_embeddings": 64)";
  const auto options = [](const LoadedConfig& loaded) { return std::get<BertOptions>(loaded.config.model.options); };
  const LoadedConfig loaded = load_tiny({distilbert + "}"});
  EXPECT_TRUE(loaded.config.model.classifies);
  EXPECT_EQ(options(loaded).kind, BertOptions::Kind::DistilBert);
  EXPECT_EQ(options(loaded).num_hidden_layers, 2);
  EXPECT_EQ(options(loaded).intermediate_size, 96);
  // Off where nothing is said, as of every family.
  EXPECT_EQ(options(loaded).hidden_dropout_prob + options(loaded).attention_probs_dropout_prob + options(loaded).head_dropout(), 0);
  EXPECT_EQ(load_text(loaded.resolved_json).resolved_json, loaded.resolved_json);
  const BertOptions dropped = options(load_tiny({distilbert + R"(, "dropout": 0.25, "attention_dropout": 0.125})"}));
  EXPECT_EQ(dropped.hidden_dropout_prob, 0.25);
  EXPECT_EQ(dropped.attention_probs_dropout_prob, 0.125);
  EXPECT_EQ(dropped.head_dropout(), 0.25);
  expect_words(tiny_refusal({distilbert + R"(, "hidden_size": 64})"}),
               {"model.hidden_size is no key of model.family \"distilbert\"", "dim"});
  expect_words(tiny_refusal({distilbert + R"(, "task": "causal_lm"})"}), {"model.task", "a DistilBERT predicts no next token"});
  expect_words(tiny_refusal({R"(model={"family": "distilbert", "n_layers": 2})"}), {"lacks dim, hidden_dim, n_heads"});

  const std::string roberta =
      R"(model={"family": "roberta", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,)"
      R"( "max_position_embeddings": 66)";
  const LoadedConfig positions = load_tiny({roberta + "}", "data.sequence_length=null"});
  EXPECT_EQ(options(positions).kind, BertOptions::Kind::Roberta);
  EXPECT_EQ(options(positions).padding_token, 1);
  EXPECT_EQ(positions.config.data.sequence_length, 64) << "two positions are those of padding and before";
  EXPECT_EQ(load_text(positions.resolved_json).resolved_json, positions.resolved_json);
  EXPECT_EQ(options(load_tiny({roberta + R"(, "pad_token_id": 0})"})).padding_token, 0);
  expect_words(tiny_refusal({roberta + "}", "data.sequence_length=65"}),
               {"data.sequence_length is 65, more than model.max_position_embeddings 66", "64 are left"});
}

TEST(Config, ADecoderClassifiesWhereTheTaskSaysSo) {
  const auto options = [](const LoadedConfig& loaded) { return gpt2_of(loaded.config); };
  const LoadedConfig scored = load_tiny({"model.task=classification", "model.num_labels=5"});
  EXPECT_TRUE(scored.config.model.classifies);
  EXPECT_EQ(options(scored).num_labels, 5);
  EXPECT_EQ(load_text(scored.resolved_json).resolved_json, scored.resolved_json);
  EXPECT_EQ(options(load_tiny({"model.task=classification"})).num_labels, 2);
  EXPECT_EQ(options(load_tiny({"model.task=causal_lm"})).num_labels, 0);
  // With a prompt it predicts the words.
  const std::vector<std::string> prompt{"data.template={text} {label}", "data.label_words=[\"a\", \"b\"]"};
  EXPECT_EQ(options(load_tiny({prompt[0], prompt[1], "model.task=classification"})).num_labels, 0);
  expect_words(tiny_refusal({prompt[0], prompt[1], "model.num_labels=3"}), {"model.num_labels", "data.label_words are the classes"});
  expect_words(tiny_refusal({"model.num_labels=3"}), {"model.num_labels", "predicts tokens", "model.task", "classification"});

  const ScratchFolder scratch;
  const auto in_directory = [&](const std::string& architecture, std::vector<std::string> set) {
    std::ofstream(scratch.path("config.json")) << fmt::format(
        R"({{"model_type": "llama", "architectures": ["{}"], "num_hidden_layers": 2, "hidden_size": 32, "max_position_embeddings": 64,)"
        R"( "id2label": {{"0": "no", "1": "so-so", "2": "yes"}}}})",
        architecture);
    set.insert(set.begin(), fmt::format("model={{\"path\": \"{}\"}}", scratch.folder().string()));
    return set;
  };
  const auto llama = [](const LoadedConfig& loaded) { return std::get<LlamaOptions>(loaded.config.model.options); };
  const LoadedConfig found = load_tiny(in_directory("LlamaForSequenceClassification", {}));
  EXPECT_TRUE(found.config.model.classifies);
  EXPECT_EQ(llama(found).class_names, (std::vector<std::string>{"no", "so-so", "yes"}));
  EXPECT_EQ(load_text(found.resolved_json).resolved_json, found.resolved_json);
  EXPECT_EQ(llama(load_tiny(in_directory("LlamaForSequenceClassification", {"model.task=causal_lm"}))).num_labels, 0);
  EXPECT_EQ(llama(load_tiny(in_directory("LlamaForCausalLM", {}))).num_labels, 0);
  EXPECT_EQ(llama(load_tiny(in_directory("LlamaForCausalLM", {"model.task=classification"}))).num_labels, 3);
  const LoadedConfig fresh =
      load_tiny(in_directory("LlamaForSequenceClassification", {"model.fresh_classifier=true", "model.num_labels=4"}));
  EXPECT_EQ(llama(fresh).num_labels, 4);
  EXPECT_TRUE(llama(fresh).class_names.empty());
  expect_words(tiny_refusal(in_directory("LlamaForCausalLM", {"model.classifier_pooling=mean", "model.task=classification"})),
               {"model.classifier_pooling", "\"llama\" has none"});
  expect_words(tiny_refusal(in_directory("LlamaForCausalLM", {"model.attention_dropout=0.1"})),
               {"attention_dropout", "Llama does not have"});
  expect_words(tiny_refusal(in_directory("LlamaForCausalLM", {"model.resid_pdrop=0.1"})), {"model.resid_pdrop", "\"llama\" has none"});
}

}  // namespace
}  // namespace zerostep
