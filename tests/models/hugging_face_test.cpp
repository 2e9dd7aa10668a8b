#include "models/hugging_face.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "models/bert/bert.h"
#include "models/gpt2/gpt2.h"
#include "models/llama/llama.h"
#include "models/model_options.h"
#include "models/safetensors.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

Gpt2Options tiny() {
  Gpt2Options o;
  o.n_layer = 1, o.n_embd = 4, o.n_head = 2, o.n_positions = 3, o.vocab_size = 5, o.n_inner = 6;
  o.resid_pdrop = 0.25, o.embd_pdrop = 0, o.attn_pdrop = 0.5;
  return o;
}

void write_model(const std::string& directory, const Gpt2Options& options) {
  const auto values = make_initial_values(3);
  write_hugging_face_model(directory, *make_gpt2(options), values);
}

TEST(HuggingFaceModels, LargeOnesAreWrittenInSeveralFiles) {
  const ScratchFolder folder;
  const std::string directory = folder.folder().string();
  const auto values = make_initial_values(3);
  Gpt2Options options;
  options.n_layer = 2, options.n_embd = 8, options.n_head = 2, options.n_positions = 6, options.vocab_size = 11;
  const auto model = make_gpt2(options);
  const auto write = [&](int64_t file_bytes) { write_hugging_face_model(directory, *model, values, {.file_bytes = file_bytes}); };
  const auto expect_readable = [&] {
    const HuggingFaceModel read = open_hugging_face_model(directory);
    for (const UnitInfo& unit : model->units())
      for (const ParameterInfo& p : unit.parameters) {
        std::vector<float> found(static_cast<size_t>(p.num_elements())), expected(found.size());
        read.values(p, 0, p.num_elements(), found.data());
        values(p, 0, p.num_elements(), expected.data());
        EXPECT_EQ(found, expected) << p.name;
      }
  };
  write(1500);
  EXPECT_FALSE(std::filesystem::exists(directory + "/model.safetensors"));
  const auto index = nlohmann::json::parse(std::ifstream(directory + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 4 * model->num_elements());
  EXPECT_EQ(index["weight_map"]["transformer.wte.weight"].get<std::string>().substr(0, 12), "model-00001-");
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors") {
      EXPECT_LT(entry.file_size(), 1500u + 2000u) << entry.path();  // with its header
    }
  expect_readable();
  write(kLargestFileBytes);
  EXPECT_FALSE(std::filesystem::exists(directory + "/model.safetensors.index.json"));
  expect_readable();
}

// What fp16 cannot hold is not written as an infinity. Half a step above its largest value a value is nearer to that.
TEST(HuggingFaceModels, Fp16HasNoInfinitiesThatTheModelHasNot) {
  const ScratchFolder folder;
  const std::string directory = folder.folder().string();
  const auto model = make_gpt2(tiny());
  const auto write = [&](float value, DType type) {
    const auto values = [&](const ParameterInfo&, int64_t, int64_t count, float* out) { std::fill_n(out, count, value); };
    write_hugging_face_model(directory, *model, values, {.type = type});
  };
  EXPECT_NO_THROW(write(-65519.0F, DType::F16));
  const HuggingFaceModel read = open_hugging_face_model(directory);
  float found = 0;
  read.values(model->unit(0).parameters[0], 0, 1, &found);
  EXPECT_EQ(found, -65504.0F);
  std::string said;
  try {
    write(65520.0F, DType::F16);
  } catch (const RunError& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("transformer.wte.weight holds 65520, and fp16 ends at 65504"), std::string::npos) << said;
  EXPECT_FALSE(std::filesystem::exists(directory + "/model.safetensors.partial"));
  EXPECT_NO_THROW(write(65520.0F, DType::BF16));
}

std::string refusal(const std::string& directory) {
  try {
    open_hugging_face_model(directory);
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(directory), std::string::npos) << error.what();
    return error.what();
  }
  return "";
}

void edit_config(const std::string& directory, const std::string& key, const nlohmann::json& value) {
  auto config = nlohmann::json::parse(std::ifstream(directory + "/config.json"));
  config[key] = value;
  std::ofstream(directory + "/config.json") << config;
}

class HuggingFace : public testing::TestWithParam<bool> {};

TEST_P(HuggingFace, AModelComesBackAsItWasWritten) {
  const ScratchFolder folder;
  Gpt2Options options = tiny();
  options.tie_word_embeddings = GetParam();
  write_model(folder.path(""), options);
  const HuggingFaceModel read = open_hugging_face_model(folder.path(""));
  EXPECT_EQ(read.model->hugging_face_config(), make_gpt2(options)->hugging_face_config());
  const auto expected = make_initial_values(3);
  for (const UnitInfo& unit : read.model->units()) {
    for (const ParameterInfo& p : unit.parameters) {
      const int64_t begin = p.num_elements() / 3, count = p.num_elements() - begin;
      std::vector<float> a(count), b(count);
      read.values(p, begin, count, a.data());
      expected(p, begin, count, b.data());
      EXPECT_EQ(a, b) << p.name;
    }
  }
  const SafetensorsFile file(folder.path("model.safetensors"));
  EXPECT_EQ(file.tensors().size(), GetParam() ? 16 : 17);
  EXPECT_EQ(file.contains("lm_head.weight"), !GetParam());
}
INSTANTIATE_TEST_SUITE_P(Tied, HuggingFace, testing::Bool());

TEST(HuggingFaceConfig, CarriesWhatTransformersReads) {
  const auto config = nlohmann::json::parse(make_gpt2(tiny())->hugging_face_config());
  EXPECT_EQ(config["architectures"], nlohmann::json({"GPT2LMHeadModel"}));
  EXPECT_EQ(config["model_type"], "gpt2");
  EXPECT_EQ(config["activation_function"], "gelu_new");
  EXPECT_EQ(config["resid_pdrop"], 0.25);
  EXPECT_EQ(config["embd_pdrop"], 0.0);
  EXPECT_EQ(config["attn_pdrop"], 0.5);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["n_inner"], 6);
  EXPECT_EQ(config["layer_norm_epsilon"], 1e-5);
  EXPECT_EQ(config["eos_token_id"], 4);
  EXPECT_TRUE(nlohmann::json::parse(make_gpt2(Gpt2Options())->hugging_face_config())["n_inner"].is_null());
}

TEST(HuggingFaceConfig, OfLlamaAndQwen2ComesBackAsItWasWritten) {
  for (const auto kind : {LlamaOptions::Kind::Llama, LlamaOptions::Kind::Qwen2}) {
    for (const auto type : {RotaryOptions::Type::Default, RotaryOptions::Type::Linear, RotaryOptions::Type::Llama3}) {
      LlamaOptions o;
      o.kind = kind;
      o.hidden_size = 24, o.intermediate_size = 20, o.num_hidden_layers = 3, o.num_attention_heads = 6, o.num_key_value_heads = 2;
      o.vocab_size = 23, o.max_position_embeddings = 64, o.rms_norm_eps = 1e-5, o.initializer_range = 0.01;
      o.tie_word_embeddings = true;
      o.attention_bias = kind == LlamaOptions::Kind::Llama;
      o.rope = {type, 5000, 4, 1.5, 3, 32};
      const std::string text = llama_hugging_face_config(o);
      const ModelOptions read = parse_model_options(nlohmann::json::parse(text), "config.json");
      EXPECT_EQ(make_model(read)->hugging_face_config(), text);
      EXPECT_EQ(std::get<LlamaOptions>(read).rope.rope_theta, 5000);
      EXPECT_EQ(std::get<LlamaOptions>(read).rope.type, type);
      EXPECT_EQ(text.find("Qwen2ForCausalLM") != std::string::npos, kind == LlamaOptions::Kind::Qwen2);
    }
  }
}

TEST(HuggingFaceConfig, ClassesKeepTheirNames) {
  const std::vector<std::string> names{"neutral", "good", "bad"};
  BertOptions o;
  o.num_labels = 3;
  const auto model = make_model(o);
  model->name_classes({"two", "names"});
  EXPECT_TRUE(model->class_names().empty()) << "there are three classes";
  model->name_classes(names);
  nlohmann::json config = nlohmann::json::parse(model->hugging_face_config());
  EXPECT_EQ(config["id2label"], nlohmann::json::parse(R"({"0": "neutral", "1": "good", "2": "bad"})"));
  EXPECT_EQ(config["label2id"], nlohmann::json::parse(R"({"neutral": 0, "good": 1, "bad": 2})"));
  EXPECT_EQ(std::get<BertOptions>(parse_model_options(config, "")).class_names, names);
  // Those of another number of classes, incomplete or ambiguous ones say nothing.
  const auto without = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json other = config;
    other[key] = value;
    EXPECT_TRUE(std::get<BertOptions>(parse_model_options(other, "")).class_names.empty()) << value;
  };
  without("num_labels", 2);
  without("id2label", {{"0", "good"}, {"2", "bad"}, {"3", "neutral"}});
  without("id2label", {{"0", "good"}, {"1", "good"}, {"2", "bad"}});
}

TEST(HuggingFaceConfig, OfBertComesBackAsItWasWritten) {
  for (const auto pooling : {BertOptions::Pooling::First, BertOptions::Pooling::Mean}) {
    BertOptions o;
    o.pooling = pooling;
    o.hidden_size = 24, o.intermediate_size = 20, o.num_hidden_layers = 3, o.num_attention_heads = 6, o.type_vocab_size = 3;
    o.vocab_size = 23, o.max_position_embeddings = 64, o.layer_norm_eps = 1e-5, o.initializer_range = 0.01, o.num_labels = 4;
    o.hidden_dropout_prob = 0.2, o.attention_probs_dropout_prob = 0.3, o.classifier_dropout = 0.4;
    const std::string text = bert_hugging_face_config(o);
    const ModelOptions read = parse_model_options(nlohmann::json::parse(text), "config.json");
    EXPECT_EQ(make_model(read)->hugging_face_config(), text);
    EXPECT_EQ(std::get<BertOptions>(read).num_labels, 4);
    EXPECT_EQ(std::get<BertOptions>(read).pooling, pooling);
    EXPECT_EQ(std::get<BertOptions>(read).head_dropout(), 0.4);
    EXPECT_TRUE(make_model(read)->class_names().empty()) << "numbers are no names";
  }
  EXPECT_EQ(std::get<BertOptions>(parse_model_options({{"model_type", "bert"}}, "")).num_labels, 2);
  EXPECT_THROW(parse_model_options({{"model_type", "bert"}, {"hidden_act", "relu"}}, ""), InputError);
  EXPECT_THROW(parse_model_options({{"model_type", "bert"}, {"position_embedding_type", "relative_key"}}, ""), InputError);
}

TEST(HuggingFaceConfig, OfOtherEncodersAndScoreHeadsComesBackAsItWasWritten) {
  BertOptions roberta, distilbert, words;
  roberta.kind = words.kind = BertOptions::Kind::Roberta, distilbert.kind = BertOptions::Kind::DistilBert;
  words.head = BertOptions::Head::MaskedLanguageModel;
  for (BertOptions* o : {&roberta, &distilbert, &words}) {
    o->hidden_size = 24, o->intermediate_size = 20, o->num_hidden_layers = 3, o->num_attention_heads = 6, o->vocab_size = 23;
    o->max_position_embeddings = 64, o->initializer_range = 0.01, o->num_labels = o->predicts_tokens() ? 2 : 4;
    o->hidden_dropout_prob = 0.2, o->attention_probs_dropout_prob = 0.3;
  }
  roberta.type_vocab_size = 1, roberta.layer_norm_eps = 1e-5, roberta.padding_token = 3, roberta.classifier_dropout = 0.4;
  distilbert.classifier_dropout = 0.4, distilbert.sinusoidal_positions = true, distilbert.class_names = {"a", "b", "c", "d"};
  Gpt2Options gpt2 = tiny();
  gpt2.num_labels = 3, gpt2.class_names = {"a", "b", "c"}, gpt2.carried = R"({"pad_token_id":4})";
  LlamaOptions llama, qwen2;
  qwen2.kind = LlamaOptions::Kind::Qwen2;
  llama.num_labels = 2, qwen2.num_labels = 5;
  struct Case {
    ModelOptions options;
    const char* architecture;
    std::vector<std::string> names;
  };
  for (const Case& c : {Case{roberta, "RobertaForSequenceClassification", {}},
                        Case{distilbert, "DistilBertForSequenceClassification", {"a", "b", "c", "d"}},
                        Case{words, "RobertaForMaskedLM", {}}, Case{gpt2, "GPT2ForSequenceClassification", {"a", "b", "c"}},
                        Case{llama, "LlamaForSequenceClassification", {}}, Case{qwen2, "Qwen2ForSequenceClassification", {}}}) {
    const auto written = make_model(c.options);
    const std::string text = written->hugging_face_config();
    EXPECT_EQ(nlohmann::json::parse(text)["architectures"], nlohmann::json::array({c.architecture}));
    const auto read = make_model(parse_model_options(nlohmann::json::parse(text), "config.json"));
    EXPECT_EQ(read->hugging_face_config(), text);
    EXPECT_EQ(read->num_classes(), written->num_classes()) << c.architecture;
    EXPECT_EQ(read->class_names(), c.names) << c.architecture;
    EXPECT_EQ(read->padding_token(), written->padding_token()) << c.architecture;
  }
  const auto said = [](const nlohmann::json& config) -> std::string {
    try {
      parse_model_options(config, "config.json");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(said({{"model_type", "distilbert"}, {"activation", "relu"}}), "config.json: activation is \"relu\"; expected \"gelu\"");
  EXPECT_EQ(said({{"model_type", "roberta"}, {"pad_token_id", nullptr}}),
            "config.json: pad_token_id is null; expected a token: a RoBERTa counts positions from the one behind it");
  EXPECT_EQ(said({{"model_type", "gpt2"}, {"architectures", {"GPT2ForSequenceClassification"}}, {"problem_type", "regression"}}),
            "config.json: problem_type is \"regression\"; expected \"single_label_classification\"");
}

TEST(HuggingFaceConfig, SpecialTokensGoThrough) {
  const auto again = [](const nlohmann::json& config) {
    return nlohmann::json::parse(make_model(parse_model_options(config, "config.json"))->hugging_face_config());
  };
  const nlohmann::json ends = {128001, 128009};
  const nlohmann::json llama =
      again({{"model_type", "llama"}, {"vocab_size", 128256}, {"bos_token_id", 128000}, {"eos_token_id", ends}, {"pad_token_id", nullptr}});
  EXPECT_EQ(llama["bos_token_id"], 128000);
  EXPECT_EQ(llama["eos_token_id"], ends);
  EXPECT_FALSE(llama.contains("pad_token_id"));
  EXPECT_EQ(again({{"model_type", "gpt2"}, {"eos_token_id", 7}})["eos_token_id"], 7) << "not the last of the vocabulary";
  EXPECT_EQ(again({{"model_type", "gpt2"}, {"vocab_size", 257}, {"eos_token_id", 50256}})["eos_token_id"], 256);
  nlohmann::json bert = {{"model_type", "bert"}, {"pad_token_id", 0}};
  EXPECT_EQ(again(bert)["pad_token_id"], 0);
  bert["architectures"] = {"BertForMaskedLM"};
  EXPECT_EQ(again(bert)["architectures"], nlohmann::json({"BertForMaskedLM"}));
}

// Keys as they stand in the file that has them: of a run below "model", of a model at the top.
TEST(HuggingFaceConfig, ContradictionsNameTheKeysOfTheirFile) {
  const auto said = [](const auto& make) -> std::string {
    try {
      make();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  LlamaOptions llama;
  llama.num_attention_heads = 4, llama.num_key_value_heads = 3;
  Gpt2Options gpt2;
  gpt2.n_embd = 10, gpt2.n_head = 3;
  BertOptions bert;
  bert.hidden_size = 10, bert.num_attention_heads = 3;
  for (const auto& [options, first, second] : std::vector<std::tuple<ModelOptions, std::string, std::string>>{
           {llama, "num_attention_heads 4 does not divide by ", "num_key_value_heads 3: "},
           {gpt2, "n_embd 10 does not divide by ", "n_head 3: "},
           {bert, "hidden_size 10 does not divide by ", "num_attention_heads 3: "}}) {
    const std::string of_run = said([&] { make_model(options); });
    EXPECT_TRUE(of_run.starts_with("model." + first + "model." + second)) << of_run;
    const std::string of_directory = said([&] { make_model_of("/a/model.dir", options); });
    EXPECT_TRUE(of_directory.starts_with("/a/model.dir/config.json: " + first + second)) << of_directory;
  }
}

TEST(HuggingFaceConfig, WhatLlamaDoesNotHaveIsRefused) {
  const auto refusal_of = [](const char* text) -> std::string {
    try {
      parse_model_options(nlohmann::json::parse(text), "config.json");
    } catch (const InputError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("config.json: ")) << error.what();
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal_of(R"({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2}})"), "");
  EXPECT_EQ(refusal_of(R"({"model_type": "qwen2", "layer_types": ["full_attention"]})"), "");
  EXPECT_NE(refusal_of(R"({"model_type": "llama", "rope_scaling": {"type": "yarn"}})").find("rope_type is \"yarn\""), std::string::npos);
  EXPECT_NE(
      refusal_of(R"({"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "factor": 8}})").find("low_freq_factor is missing"),
      std::string::npos);
  EXPECT_NE(refusal_of(R"({"model_type": "llama", "rope_scaling": 3})").find("expected a block"), std::string::npos);
  EXPECT_NE(refusal_of(R"({"model_type": "llama", "hidden_act": "gelu"})").find("hidden_act is \"gelu\""), std::string::npos);
  EXPECT_NE(refusal_of(R"({"model_type": "llama", "mlp_bias": true})").find("mlp_bias is true"), std::string::npos);
  for (const std::string key : {"use_sliding_window", "use_mrope", "rope_interleaved"})
    for (const std::string type : {"llama", "qwen2"}) {
      const std::string config = R"({"model_type": ")" + type + R"(", ")" + key + "\": ";
      EXPECT_EQ(refusal_of((config + "false}").c_str()), "");
      EXPECT_NE(refusal_of((config + "true}").c_str()).find(key + " is true"), std::string::npos) << type;
      EXPECT_EQ(unread_keys(nlohmann::json::parse(config + "false}")), std::vector<std::string>{});
    }
  EXPECT_NE(refusal_of(R"({"model_type": "qwen2", "layer_types": ["sliding_attention"]})").find("layer_types"), std::string::npos);
  EXPECT_NE(refusal_of(R"({"model_type": "llama", "hidden_size": 1.5})").find("expected a whole number"), std::string::npos);
}

TEST(HuggingFaceDirectory, NamesMayLackThePrefixAndFilesMayBeSeveral) {
  const ScratchFolder folder;
  write_model(folder.path(""), tiny());
  const auto model = make_gpt2(tiny());
  nlohmann::json index;
  std::filesystem::remove(folder.path("model.safetensors"));
  for (const UnitInfo& unit : model->units()) {
    std::vector<SafetensorsWriter::Tensor> tensors;
    std::vector<float> values;
    for (const ParameterInfo& p : unit.parameters) {
      tensors.push_back({p.name.substr(std::string("transformer.").size()), DType::F32, p.shape});
      for (int64_t i = 0; i < p.num_elements(); ++i) values.push_back(static_cast<float>(p.first + i));
      index["weight_map"][tensors.back().name] = unit.name + ".safetensors";
    }
    SafetensorsWriter writer(folder.path(unit.name + ".safetensors"), tensors);
    writer.append(values.data(), static_cast<int64_t>(values.size()));
    writer.finish();
  }
  std::ofstream(folder.path("model.safetensors.index.json")) << index;
  const HuggingFaceModel read = open_hugging_face_model(folder.path(""));
  const ParameterInfo& p = read.model->units()[1].parameters[8];
  EXPECT_EQ(p.name, "transformer.h.0.mlp.c_fc.weight");
  std::vector<float> values(2);
  read.values(p, 5, 2, values.data());
  EXPECT_EQ(values[0], static_cast<float>(p.first + 5));
  EXPECT_EQ(values[1], static_cast<float>(p.first + 6));
  const auto with = [&](const nlohmann::json& wte) {
    auto changed = index;
    changed["weight_map"]["wte.weight"] = wte;
    std::ofstream(folder.path("model.safetensors.index.json")) << changed;
    return refusal(folder.path(""));
  };
  EXPECT_NE(with("../elsewhere").find("weight_map.wte.weight"), std::string::npos);
  EXPECT_NE(with(3).find("weight_map.wte.weight is 3"), std::string::npos);
  EXPECT_NE(with("head.safetensors").find("head.safetensors holds wte.weight, and it does not"), std::string::npos);
  EXPECT_NE(with("gone.safetensors").find("gone.safetensors"), std::string::npos);
  EXPECT_NE(with("").find(folder.path("")), std::string::npos);
  auto lacking = index;
  lacking["weight_map"].erase("wte.weight");
  std::ofstream(folder.path("model.safetensors.index.json")) << lacking;
  EXPECT_NE(refusal(folder.path("")).find("hold no transformer.wte.weight"), std::string::npos);
  std::ofstream(folder.path("model.safetensors.index.json")) << "{\"weight_map\": []}";
  EXPECT_NE(refusal(folder.path("")).find("there is no weight_map"), std::string::npos);
}

TEST(HuggingFaceDirectory, ABareEncoderGetsAFreshHead) {
  const ScratchFolder folder;
  BertOptions o;
  o.hidden_size = 8, o.intermediate_size = 12, o.num_hidden_layers = 1, o.num_attention_heads = 2, o.vocab_size = 11, o.num_labels = 3;
  o.max_position_embeddings = 7;
  const auto model = make_bert(o);
  std::vector<SafetensorsWriter::Tensor> tensors;
  std::vector<float> values;
  for (const UnitInfo& unit : model->units()) {
    for (const ParameterInfo& p : unit.parameters) {
      if (p.name.starts_with("classifier.")) continue;
      std::string name = p.name.substr(std::string("bert.").size());
      if (name == "embeddings.LayerNorm.weight") name = "embeddings.LayerNorm.gamma";
      tensors.push_back({name, DType::F32, p.shape});
      for (int64_t i = 0; i < p.num_elements(); ++i) values.push_back(static_cast<float>(p.first + i));
    }
  }
  SafetensorsWriter writer(folder.path("model.safetensors"), tensors);
  writer.append(values.data(), static_cast<int64_t>(values.size()));
  writer.finish();
  std::ofstream(folder.path("config.json")) << model->hugging_face_config();
  EXPECT_NE(refusal(folder.path("")).find("hold no classifier.weight"), std::string::npos);
  const HuggingFaceModel read = open_hugging_face_model(folder.path(""), {make_initial_values(5)});
  EXPECT_EQ(read.untrained, (std::vector<std::string>{"classifier.bias", "classifier.weight"}));
  for (const UnitInfo& unit : read.model->units()) {
    for (const ParameterInfo& p : unit.parameters) {
      std::vector<float> found(static_cast<size_t>(p.num_elements())), fresh(found.size());
      read.values(p, 0, p.num_elements(), found.data());
      initial_values(p, 5, 0, p.num_elements(), fresh.data());
      if (p.name.starts_with("classifier.")) {
        EXPECT_EQ(found, fresh) << p.name;
      } else {
        EXPECT_EQ(found[0], static_cast<float>(p.first)) << p.name;
      }
    }
  }
}

TEST(HuggingFaceDirectory, WhatDoesNotFitIsRefused) {
  const ScratchFolder folder;
  const std::string directory = folder.path("model");
  EXPECT_NE(refusal(directory).find("not a directory"), std::string::npos);
  std::filesystem::create_directory(directory);
  EXPECT_NE(refusal(directory).find("config.json"), std::string::npos);
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    write_model(directory, tiny());
    edit_config(directory, key, value);
    return refusal(directory);
  };
  EXPECT_EQ(with("unknown_key", 1), "");
  EXPECT_NE(with("model_type", "mamba")
                .find("model_type is \"mamba\"; expected \"gpt2\", \"llama\", \"qwen2\", \"bert\", \"roberta\" or \"distilbert\""),
            std::string::npos);
  EXPECT_NE(with("activation_function", "relu").find("\"relu\""), std::string::npos);
  EXPECT_NE(with("scale_attn_by_inverse_layer_idx", true).find("scale_attn_by_inverse_layer_idx"), std::string::npos);
  EXPECT_NE(with("n_layer", "one").find("n_layer is \"one\"; expected a whole number"), std::string::npos);
  EXPECT_NE(with("n_head", 3).find("does not divide"), std::string::npos);
  EXPECT_NE(with("n_layer", 2).find("hold no transformer.h.1.ln_1.weight"), std::string::npos);
  EXPECT_NE(with("vocab_size", 6).find("has shape [5,4], but config.json makes it [6,4]"), std::string::npos);
  EXPECT_NE(with("tie_word_embeddings", false).find("hold no lm_head.weight"), std::string::npos);
  write_model(directory, tiny());
  std::string file = (std::stringstream() << std::ifstream(directory + "/model.safetensors", std::ios::binary).rdbuf()).str();
  file.replace(file.find("F32"), 3, "I32");
  std::ofstream(directory + "/model.safetensors", std::ios::binary) << file;
  EXPECT_NE(refusal(directory).find("transformer.wte.weight has type I32; expected F32, BF16, F16 or F64"), std::string::npos);
  std::filesystem::remove(directory + "/model.safetensors");
  EXPECT_NE(refusal(directory).find("neither model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace zerostep
