#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/bert/bert.h"
#include "models/gpt2/gpt2.h"
#include "models/hugging_face.h"
#include "models/llama/llama.h"
#include "models/model_options.h"
#include "models/safetensors.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

// Directories as other tools leave them: what they hold and the model does not use, or lack, is said.
namespace zerostep {
namespace {

using nlohmann::json;

class Directories : public testing::Test {
 protected:
  struct Saved {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };

  static LlamaOptions small_llama() {
    LlamaOptions o;
    o.hidden_size = 8, o.intermediate_size = 12, o.num_hidden_layers = 1, o.num_attention_heads = 2, o.vocab_size = 11;
    o.max_position_embeddings = 7, o.tie_word_embeddings = true;
    return o;
  }
  static BertOptions small_bert(int64_t num_labels) {
    BertOptions o;
    o.hidden_size = 8, o.intermediate_size = 12, o.num_hidden_layers = 1, o.num_attention_heads = 2, o.vocab_size = 11;
    o.max_position_embeddings = 7, o.num_labels = num_labels;
    return o;
  }
  // Tensors of a model whose elements are their global indices.
  static std::map<std::string, Saved> tensors_of(const ModelDefinition& model) {
    std::map<std::string, Saved> out;
    for (const UnitInfo& unit : model.units())
      for (const ParameterInfo& p : unit.parameters) {
        Saved& saved = out[p.name];
        saved.shape = p.shape;
        for (int64_t i = 0; i < p.num_elements(); ++i) saved.values.push_back(static_cast<float>(p.first + i));
      }
    return out;
  }
  void write(const std::map<std::string, Saved>& tensors, const json& config) const {
    std::vector<SafetensorsWriter::Tensor> list;
    for (const auto& [name, saved] : tensors) list.push_back({name, DType::F32, saved.shape});
    SafetensorsWriter writer(folder_.path("model.safetensors"), list);
    for (const auto& [name, saved] : tensors) writer.append(saved.values.data(), static_cast<int64_t>(saved.values.size()));
    writer.finish();
    std::ofstream(folder_.path("config.json")) << config;
  }
  void touch(const std::string& name) const { std::ofstream(folder_.path(name)) << "{}"; }

  // The whole model is read, and every element is its global index.
  static void expect_indices(const HuggingFaceModel& read) {
    for (const UnitInfo& unit : read.model->units())
      for (const ParameterInfo& p : unit.parameters) {
        std::vector<float> values(static_cast<size_t>(p.num_elements()));
        read.values(p, 0, p.num_elements(), values.data());
        for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(p.first + static_cast<int64_t>(i))) << p.name;
      }
  }
  HuggingFaceModel open() const { return open_hugging_face_model(folder_.path("")); }
  std::string refusal() const {
    try {
      open();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  ScratchFolder folder_;
};

TEST_F(Directories, ATiedParameterMayStandUnderEitherName) {
  BertOptions words = small_bert(2);
  words.head = BertOptions::Head::MaskedLanguageModel;
  Gpt2Options gpt2;
  gpt2.n_layer = 1, gpt2.n_embd = 4, gpt2.n_head = 2, gpt2.n_positions = 3, gpt2.vocab_size = 5;
  struct Case {
    std::unique_ptr<ModelDefinition> model;
    const char *owner, *second, *advice;
  };
  constexpr const char* kUntie = "set tie_word_embeddings to false there to keep both";
  constexpr const char* kTakeOut = "ForMaskedLM has one tensor for both: take one of the two out";
  BertOptions roberta = words, distilbert = words;
  roberta.kind = BertOptions::Kind::Roberta, distilbert.kind = BertOptions::Kind::DistilBert;
  std::vector<Case> cases;
  cases.push_back({make_llama(small_llama()), "model.embed_tokens.weight", "lm_head.weight", kUntie});
  cases.push_back({make_gpt2(gpt2), "transformer.wte.weight", "lm_head.weight", kUntie});
  cases.push_back({make_bert(words), "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight", kTakeOut});
  cases.push_back({make_bert(words), "cls.predictions.bias", "cls.predictions.decoder.bias", kTakeOut});
  cases.push_back({make_bert(roberta), "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight", kTakeOut});
  cases.push_back({make_bert(roberta), "lm_head.bias", "lm_head.decoder.bias", kTakeOut});
  cases.push_back({make_bert(distilbert), "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight", kTakeOut});
  for (const Case& c : cases) {
    const json config = json::parse(c.model->hugging_face_config());
    auto tensors = tensors_of(*c.model);
    const Saved owner = tensors.at(c.owner);
    tensors.erase(c.owner);
    tensors[c.second] = owner;
    write(tensors, config);
    expect_indices(open());
    tensors[c.owner] = owner;
    write(tensors, config);
    const HuggingFaceModel both = open();
    expect_indices(both);
    EXPECT_EQ(both.notes, std::vector<std::string>{}) << "the same values twice";
    tensors[c.second].values.back() += 1;
    write(tensors, config);
    for (const char* part : {c.owner, c.second, "differ", c.advice}) EXPECT_SAYS(refusal(), part);
    EXPECT_EQ(refusal().find(c.advice == kUntie ? kTakeOut : kUntie), std::string::npos) << "what " << c.owner << " cannot do";
    tensors[c.second] = {{2}, {0, 0}};
    write(tensors, config);
    EXPECT_SAYS(refusal(), "differ");
  }
}

TEST_F(Directories, AnUntiedModelWithoutAHeadIsToldToTie) {
  LlamaOptions o = small_llama();
  const auto tensors = tensors_of(*make_llama(o));
  o.tie_word_embeddings = false;
  write(tensors, json::parse(make_llama(o)->hugging_face_config()));
  EXPECT_SAYS(refusal(), "hold no lm_head.weight");
  EXPECT_SAYS(refusal(), "set tie_word_embeddings to true");
}

TEST_F(Directories, WhatIsNotUsedIsSaid) {
  const auto model = make_llama(small_llama());
  json config = json::parse(model->hugging_face_config());
  auto tensors = tensors_of(*model);
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, {1, 2}};
  config["transformers_version"] = "5.0.0";
  config["use_cache"] = true;
  config["pretraining_tp"] = 1;
  write(tensors, config);
  EXPECT_EQ(open().notes, std::vector<std::string>{}) << "functions of the sizes, and keys without effect";
  tensors["model.layers.1.mlp.up_proj.weight"] = {{1}, {0}};
  write(tensors, config);
  ASSERT_EQ(open().notes.size(), 1U);
  EXPECT_SAYS(open().notes[0], "1 of the 13 tensors in its files is not used by this model: model.layers.1.mlp.up_proj.weight");
  for (int i = 2; i < 8; ++i) tensors["score" + std::to_string(i)] = {{1}, {0}};
  config["logit_softcapping"] = 30.0;
  write(tensors, config);
  touch("adapter_config.json");
  touch("model.safetensors.index.json");
  const std::vector<std::string> notes = open().notes;
  ASSERT_EQ(notes.size(), 4U);
  EXPECT_SAYS(notes[0], "7 of the 19 tensors in its files are not used by this model");
  EXPECT_SAYS(notes[0], "score5 and 2 more");
  EXPECT_SAYS(notes[1], "model.safetensors.index.json with its files is not");
  EXPECT_SAYS(notes[2], "adapter");
  EXPECT_SAYS(notes[3], "config.json: not known here and without effect: logit_softcapping");
}

TEST_F(Directories, ConfigsOfTransformersHaveNoKeyThatIsNotKnown) {
  // The keys that save_pretrained of transformers 4 and 5 writes for a GPT-2, a Llama, a Qwen2, a BERT, a RoBERTa and a DistilBERT.
  for (
      const char* text :
      {R"({"activation_function":"gelu_new","add_cross_attention":false,"architectures":["GPT2LMHeadModel"],"attn_pdrop":0.1,"bos_token_id":50256,
            "dtype":"float32","embd_pdrop":0.1,"eos_token_id":50256,"initializer_range":0.02,"layer_norm_epsilon":1e-05,"model_type":"gpt2",
            "n_ctx":1024,"n_embd":768,"n_head":12,"n_inner":null,"n_layer":12,"n_positions":1024,"pad_token_id":null,
            "reorder_and_upcast_attn":false,"resid_pdrop":0.1,"scale_attn_by_inverse_layer_idx":false,"scale_attn_weights":true,
            "summary_activation":null,"summary_first_dropout":0.1,"summary_proj_to_labels":true,"summary_type":"cls_index",
            "summary_use_proj":true,"task_specific_params":{},"tie_word_embeddings":true,"transformers_version":"5.0.0","use_cache":true,
            "vocab_size":50257})",
       R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":1,"eos_token_id":2,"head_dim":16,
            "hidden_act":"silu","hidden_size":64,"initializer_range":0.02,"intermediate_size":160,"max_position_embeddings":64,"mlp_bias":false,
            "model_type":"llama","num_attention_heads":4,"num_hidden_layers":2,"num_key_value_heads":2,"pad_token_id":null,"pretraining_tp":1,
            "rms_norm_eps":1e-06,"rope_parameters":{"rope_theta":500.0,"rope_type":"default"},"tie_word_embeddings":false,"use_cache":true,
            "torch_dtype":"bfloat16","vocab_size":257})",
       R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"hidden_act":"silu","hidden_size":64,"layer_types":["full_attention"],
            "max_window_layers":28,"model_type":"qwen2","rope_theta":1e6,"rope_scaling":null,"sliding_window":null,"use_mrope":false,
            "use_sliding_window":false,"num_attention_heads":4,"num_hidden_layers":1,"vocab_size":257})",
       R"({"_name_or_path":"x","add_cross_attention":false,"architectures":["BertForSequenceClassification"],"attention_probs_dropout_prob":0.1,
            "classifier_dropout":null,"gradient_checkpointing":false,"hidden_act":"gelu","hidden_dropout_prob":0.1,"hidden_size":768,
            "id2label":{"0":"a","1":"b"},"initializer_range":0.02,"intermediate_size":3072,"is_decoder":false,"label2id":{"a":0,"b":1},
            "layer_norm_eps":1e-12,"max_position_embeddings":512,"model_type":"bert","num_attention_heads":12,"num_hidden_layers":12,
            "pad_token_id":0,"position_embedding_type":"absolute","problem_type":"single_label_classification","type_vocab_size":2,
            "use_cache":true,"vocab_size":30522})",
       R"({"add_cross_attention":false,"architectures":["RobertaForSequenceClassification"],"attention_probs_dropout_prob":0.1,"bos_token_id":0,
            "classifier_dropout":null,"dtype":"float32","eos_token_id":2,"hidden_act":"gelu","hidden_dropout_prob":0.1,"hidden_size":768,
            "id2label":{"0":"a","1":"b"},"initializer_range":0.02,"intermediate_size":3072,"is_decoder":false,"label2id":{"a":0,"b":1},
            "layer_norm_eps":1e-05,"max_position_embeddings":514,"model_type":"roberta","num_attention_heads":12,"num_hidden_layers":12,
            "pad_token_id":1,"position_embedding_type":"absolute","tie_word_embeddings":true,"type_vocab_size":1,"use_cache":true,
            "vocab_size":50265})",
       R"({"activation":"gelu","architectures":["DistilBertForSequenceClassification"],"attention_dropout":0.1,"bos_token_id":null,"dim":768,
            "dropout":0.1,"eos_token_id":null,"finetuning_task":"sst-2","hidden_dim":3072,"id2label":{"0":"NEGATIVE","1":"POSITIVE"},
            "initializer_range":0.02,"label2id":{"NEGATIVE":0,"POSITIVE":1},"max_position_embeddings":512,"model_type":"distilbert","n_heads":12,
            "n_layers":6,"output_past":true,"pad_token_id":0,"qa_dropout":0.1,"seq_classif_dropout":0.2,"sinusoidal_pos_embds":false,
            "tie_weights_":true,"tie_word_embeddings":true,"vocab_size":30522})"})
    EXPECT_EQ(unread_keys(json::parse(text)), std::vector<std::string>{}) << text;
}

TEST_F(Directories, AClassifierOfOtherClassesIsNamedAndCanBeReplaced) {
  const auto three = make_bert(small_bert(3)), two = make_bert(small_bert(2));
  write(tensors_of(*three), json::parse(three->hugging_face_config()));
  const auto said = [&](const ModelDefinition& model) -> std::string {
    try {
      open_hugging_face_values(folder_.path(""), model, {make_initial_values(5)});
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  for (const char* part : {"classifier.weight has shape [3,8], a classifier of 3 classes", "model.num_labels asks for 2 classes",
                           "leave model.num_labels out", "model.fresh_classifier"})
    EXPECT_SAYS(said(*two), part);
  EXPECT_EQ(said(*three), "");
  write(tensors_of(*three), json::parse(two->hugging_face_config()));
  EXPECT_SAYS(said(*two), "config.json beside it (id2label, num_labels) has 2 classes: correct config.json");

  const HuggingFaceValues fresh = open_hugging_face_values(folder_.path(""), *two, {make_initial_values(5), true});
  EXPECT_EQ(fresh.untrained,
            (std::vector<std::string>{"bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"}));
  ASSERT_EQ(fresh.notes.size(), 1U);
  EXPECT_SAYS(fresh.notes[0], "4 of the 25 tensors in its files are not used by this model: bert.pooler.dense.bias");
  for (const UnitInfo& unit : two->units())
    for (const ParameterInfo& p : unit.parameters) {
      std::vector<float> found(static_cast<size_t>(p.num_elements())), first(found.size());
      fresh.values(p, 0, p.num_elements(), found.data());
      initial_values(p, 5, 0, p.num_elements(), first.data());
      if (&unit == &two->units().back())
        EXPECT_EQ(found, first) << p.name;
      else
        EXPECT_EQ(found[0], static_cast<float>(p.first)) << p.name;
    }
}

// Encoders and language models as they are saved, without the head that classifies and without the prefix that a model with a head has.
TEST_F(Directories, BareOnesGetAClassifierOfFirstValues) {
  BertOptions roberta = small_bert(2), distilbert = small_bert(2);
  roberta.kind = BertOptions::Kind::Roberta, distilbert.kind = BertOptions::Kind::DistilBert;
  LlamaOptions llama = small_llama();
  llama.num_labels = 2;
  struct Case {
    std::unique_ptr<ModelDefinition> model;
    std::string prefix;
    std::vector<std::string> untrained;
  };
  std::vector<Case> cases;
  cases.push_back({make_bert(roberta),
                   "roberta.",
                   {"classifier.dense.bias", "classifier.dense.weight", "classifier.out_proj.bias", "classifier.out_proj.weight"}});
  cases.push_back(
      {make_bert(distilbert), "distilbert.", {"classifier.bias", "classifier.weight", "pre_classifier.bias", "pre_classifier.weight"}});
  cases.push_back({make_llama(llama), "model.", {"score.weight"}});
  for (const Case& c : cases) {
    std::map<std::string, Saved> bare;
    for (const auto& [name, saved] : tensors_of(*c.model))
      if (name.starts_with(c.prefix)) bare[name.substr(c.prefix.size())] = saved;
    write(bare, json::parse(c.model->hugging_face_config()));
    EXPECT_SAYS(refusal(), "the safetensors hold no " + std::string(c.prefix == "model." ? "score.weight" : ""));
    const HuggingFaceValues found = open_hugging_face_values(folder_.path(""), *c.model, {make_initial_values(5)});
    EXPECT_EQ(found.untrained, c.untrained);
    EXPECT_EQ(found.notes, std::vector<std::string>{});
    for (const UnitInfo& unit : c.model->units())
      for (const ParameterInfo& p : unit.parameters) {
        float value = 0;
        found.values(p, 0, 1, &value);
        if (p.name.starts_with(c.prefix)) {
          EXPECT_EQ(value, static_cast<float>(p.first)) << p.name;
        }
      }
    // All of it anew: a decoder's last norm is none of a classifier's parameters.
    EXPECT_EQ(open_hugging_face_values(folder_.path(""), *c.model, {make_initial_values(5), true}).untrained, c.untrained);
  }
}

TEST_F(Directories, OtherFormatsAndPlacesAreNamed) {
  EXPECT_SAYS(refusal(), "config.json: is missing");
  touch("manifest.json");
  EXPECT_SAYS(refusal(), "is a checkpoint; expected a Hugging Face directory: `zerostep export");
  const auto model = make_llama(small_llama());
  std::ofstream(folder_.path("config.json")) << model->hugging_face_config();
  EXPECT_SAYS(refusal(), "neither model.safetensors nor model.safetensors.index.json");
  touch("adapter_model.safetensors");
  EXPECT_SAYS(refusal(), "but an adapter");
  touch("pytorch_model.bin");
  EXPECT_SAYS(refusal(), "but pytorch_model.bin, which is not read: save the model as safetensors");
  std::ofstream(folder_.path("model.safetensors")) << "<!DOCTYPE html><html>";
  EXPECT_SAYS(refusal(), "is it a web page");
  std::ofstream(folder_.path("model.safetensors")) << "PK\x03\x04 and so on";
  EXPECT_SAYS(refusal(), "torch.save");
  std::ofstream(folder_.path("model.safetensors")) << "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n";
  EXPECT_SAYS(refusal(), "pointer of Git LFS");
  const auto with = [&](const char* text) {
    std::ofstream(folder_.path("config.json")) << text;
    return refusal();
  };
  EXPECT_SAYS(with("{\"model_type\": \"llama\"}\n}"), "config.json:2:1: not valid JSON");
  EXPECT_SAYS(with("{\"hidden_size\": 8}"), "there is no model_type");
  EXPECT_SAYS(with("{\"architectures\": [\"GPT2LMHeadModel\"]}"), "architectures is [\"GPT2LMHeadModel\"]");
  EXPECT_SAYS(with("{\"model_type\": \"llama\", \"quantization_config\": {\"bits\": 4}}"), "quantization_config is given");
}

}  // namespace
}  // namespace zerostep
