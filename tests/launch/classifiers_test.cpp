#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/model_files.h"
#include "runtime/generate/plain_model.h"
#include "tests/launch/support/run_binary.h"

// Classifiers of every family beside BERT: encoders with their own heads, decoders with a score head.
namespace zerostep::testing {
namespace {

using nlohmann::json;

struct Family {
  const char *name, *architecture, *model;
};
void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

class Classifiers : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    place_.write("train.tsv", rows(48));
    place_.write("eval.tsv", rows(21));
    const json config = {{"train_batch_size", 8},
                         {"train_micro_batch_size_per_gpu", 4},
                         {"seed", 3},
                         {"steps_per_print", 10},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.003}}}}},
                         {"model", json::parse(GetParam().model)},
                         {"data", {{"train", place_.path("train.tsv")}, {"eval", place_.path("eval.tsv")}, {"sequence_length", 40}}},
                         {"run", {{"name", "test"}, {"output_dir", place_.path("runs")}, {"steps", 5}}}};
    place_.write("config.json", config.dump());
  }
  // "text<tab>label": the label is 1 where the sentence says good.
  static std::string rows(int count) {
    std::string out;
    for (int i = 0; i < count; ++i) {
      const bool good = i * 7 % 3 == 0;
      std::string text = good ? "good" : "bad";
      for (int w = 0; w < i * 5 % 7; ++w) text = (w % 2 == 0 ? "so " : "very ") + text;
      out += text + "\t" + (good ? "1" : "0") + "\n";
    }
    return out;
  }
  Outcome train(const std::vector<std::string>& set, int ranks = 1) const {
    std::vector<std::string> arguments{"train", place_.path("config.json"), "--overwrite"};
    for (const std::string& s : set) arguments.insert(arguments.end(), {"--set", s});
    return place_.run(arguments, {.ranks = ranks});
  }
  json evaluated(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"eval", place_.path("config.json"), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome done = place_.run(arguments);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out);
  }
  Workplace place_;
};

// By backprop and by forward passes, on any ranks at any stage; and what they take is what was planned: 2 % above are for tensors of a few
// bytes that the plan leaves out, 10 % below for gradients that are planned whole. The longest batch may not come within the steps, so the
// plan may be above what is measured by its padding too: the table is one whose batches have the longest sample.
TEST_P(Classifiers, TrainTheSameAtEveryStage) {
  for (const char* mode : {R"({"mode": "fo"})", R"({"mode": "zo", "queries": 2, "epsilon": 1e-2})",
                           R"({"mode": "zo", "queries": 2, "perturbation": "low_rank", "rank": 1, "scope": "reduced"})"}) {
    const std::string step = std::string("step=") + mode;
    const Outcome first = train({step, "run.name=one"});
    ASSERT_EQ(first.status, 0) << first.err;
    const std::vector<double> expected = place_.column("one", "loss");
    ASSERT_EQ(expected.size(), 5u);
    EXPECT_NEAR(expected[0], std::log(2), 0.3);
    for (const auto& [ranks, stage] : {std::pair(1, 3), {2, 1}, {2, 3}}) {
      const Outcome done = train({step, "zero_optimization.stage=" + std::to_string(stage)}, ranks);
      ASSERT_EQ(done.status, 0) << done.err;
      const std::vector<double> losses = place_.column("test", "loss");
      ASSERT_EQ(losses.size(), expected.size());
      // As classification_test.cpp allows across numbers of ranks.
      for (size_t s = 0; s < losses.size(); ++s)
        EXPECT_NEAR(losses[s] / expected[s], 1, 2e-5) << mode << ", " << ranks << " ranks, stage " << stage << ", step " << s;
      EXPECT_NEAR(place_.column("test", "eval_loss").back() / place_.column("one", "eval_loss").back(), 1, 1e-4);
    }
  }
}

TEST_P(Classifiers, TakeTheMemoryThatIsPlanned) {
  std::string table;
  for (int i = 0; i < 16; ++i) table += std::string(60, 'a') + "\t" + std::to_string(i % 2) + "\n";
  place_.write("long.tsv", table);
  for (const char* mode : {"fo", "zo"})
    for (const int stage : {0, 3}) {
      const std::string what = fmt::format("{} at stage {}", mode, stage);
      const Outcome done = train({fmt::format("step.mode={}", mode), fmt::format("zero_optimization.stage={}", stage),
                                  "data.train=" + place_.path("long.tsv"), "data.eval=[]"});
      ASSERT_EQ(done.status, 0) << what << ": " << done.err;
      const double planned = json::parse(place_.read("runs/test/plan.json"))["device_peak_bytes"];
      const auto column = place_.column("test", "device_peak_bytes");
      const double measured = *std::max_element(column.begin(), column.end());
      EXPECT_LE(measured, 1.02 * planned) << what;
      EXPECT_LE(planned, 1.10 * measured) << what;
    }
}

TEST_P(Classifiers, GoOutAndComeBackToTheBit) {
  ASSERT_EQ(train({"run.checkpoint_interval=5"}).status, 0);
  const std::string checkpoint = place_.path("runs/test/checkpoints/step_00000005"), model = place_.path("model");
  ASSERT_EQ(place_.run({"export", checkpoint, model}).status, 0);
  const json config = json::parse(place_.read("model/config.json"));
  EXPECT_EQ(config["architectures"], json::array({GetParam().architecture}));
  EXPECT_EQ(config["id2label"], json::parse(R"({"0": "0", "1": "1"})"));
  const json of_checkpoint = evaluated({"--checkpoint", checkpoint});
  EXPECT_EQ(evaluated({"--checkpoint", model}), of_checkpoint);
  EXPECT_EQ(evaluated({"--set", R"(model={"path": ")" + model + "\"}"}), of_checkpoint);
  EXPECT_NEAR(of_checkpoint["loss"].get<double>() / place_.column("test", "eval_loss").back(), 1, 1e-6);
  // A directory that a model was read from and nothing was done to is written as it was.
  const std::string path = R"(model={"path": ")" + model + "\"}";
  ASSERT_EQ(place_.run({"init", place_.path("config.json"), place_.path("again"), "--set", path}).status, 0);
  EXPECT_EQ(place_.read("again/model.safetensors"), place_.read("model/model.safetensors"));
  EXPECT_EQ(place_.read("again/config.json"), place_.read("model/config.json"));
  // Of other classes it gets a new classifier, and the rest of its values.
  const Outcome other = place_.run({"init", place_.path("config.json"), place_.path("other"), "--set",
                                    R"(model={"path": ")" + model + R"(", "num_labels": 4, "fresh_classifier": true})"});
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_SAYS(other.out, std::string(GetParam().name).find("score") != std::string::npos ? "score.weight" : "classifier.");
  EXPECT_EQ(other.out.find("norm"), std::string::npos) << "a decoder's last norm is no classifier's: " << other.out;
  EXPECT_EQ(json::parse(place_.read("other/config.json"))["id2label"].size(), 4u);
  const Outcome refused = place_.run(
      {"init", place_.path("config.json"), place_.path("third"), "--set", R"(model={"path": ")" + model + R"(", "num_labels": 4})"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "a classifier of 2 classes, but model.num_labels asks for 4");
}

constexpr const char* kRoberta = R"({"family": "roberta", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2, "max_position_embeddings": 66, "type_vocab_size": 1})";
constexpr const char* kDistilBert = R"({"family": "distilbert", "n_layers": 2, "dim": 32, "hidden_dim": 64, "n_heads": 2,
    "max_position_embeddings": 64})";
constexpr const char* kGpt2 = R"({"family": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "task": "classification"})";
constexpr const char* kLlama = R"({"family": "llama", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "task": "classification"})";
constexpr const char* kQwen2 = R"({"family": "qwen2", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "task": "classification",
    "tie_word_embeddings": true})";

INSTANTIATE_TEST_SUITE_P(Families, Classifiers,
                         ::testing::Values(Family{"roberta", "RobertaForSequenceClassification", kRoberta},
                                           Family{"distilbert", "DistilBertForSequenceClassification", kDistilBert},
                                           Family{"gpt2_score", "GPT2ForSequenceClassification", kGpt2},
                                           Family{"llama_score", "LlamaForSequenceClassification", kLlama},
                                           Family{"qwen2_score", "Qwen2ForSequenceClassification", kQwen2}),
                         [](const auto& info) { return std::string(info.param.name); });

// What transformers made of such directories stands in a file that tests/models/reference/exports.py has written. This program still writes
// them byte for byte, which is what transformers read, and its own logits, in fp32, are those of transformers in float64: each of some
// dozens of operations rounds to 2^-24 of numbers up to 4.
TEST(ClassifierExports, AreWhatTransformersRead) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  const json cases = json::parse(std::ifstream(std::string(source) + "/tests/models/reference/exports.json")).at("cases");
  ASSERT_EQ(cases.size(), 5u);
  const auto tensor = [](const json& rows) {
    std::vector<at::Tensor> out;
    for (const json& row : rows) out.push_back(at::tensor(row.get<std::vector<int64_t>>(), at::kLong));
    return at::stack(out);
  };
  const Workplace place;
  place.write("rows.tsv", "good\tyes\nbad\tno\n");
  for (const json& expected : cases) {
    const std::string name = expected["name"];
    const json run = {{"train_batch_size", 1},
                      {"seed", 3},
                      {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}},
                      {"model", expected["model"]},
                      {"data", {{"train", place.path("rows.tsv")}, {"sequence_length", 32}}},
                      {"run", {{"steps", 1}}}};
    place.write("run.json", run.dump());
    const Outcome done = place.run({"init", place.path("run.json"), place.path(name)});
    ASSERT_EQ(done.status, 0) << name << ": " << done.err;
    EXPECT_EQ(json::parse(place.read(name + "/config.json")), expected["config"]) << name;
    const std::string values = place.read(name + "/model.safetensors");
    EXPECT_EQ(values.size(), expected["bytes"]) << name;
    EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(values.data()), static_cast<uInt>(values.size())), expected["crc32"]) << name;
    const SavedModel saved = open_model(place.path(name));
    const PlainModel model(*saved.model, saved.read, Device::cpu());
    Batch batch;
    batch.tokens = tensor(expected["tokens"]);
    batch.mask = tensor(expected["mask"]).to(at::kBool);
    batch.pads_ends = true;
    const at::Tensor logits = model.logits(batch);
    const auto classes = static_cast<int64_t>(expected["logits"][0].size());
    ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{4, classes})) << name;
    for (int64_t row = 0; row < 4; ++row)
      for (int64_t c = 0; c < classes; ++c)
        EXPECT_NEAR(logits[row][c].item<double>(), expected["logits"].at(static_cast<size_t>(row)).at(static_cast<size_t>(c)), 1e-5)
            << name;
  }
}

// A language model becomes a classifier by a score head of first values, and a classifier the language model below it.
TEST(ScoreHeads, StandOnALanguageModel) {
  const Workplace place;
  place.config();
  ASSERT_EQ(place.run({"init", place.path("config.json"), place.path("language")}).status, 0);
  place.write("rows.tsv", "good\t1\nbad\t0\nso good\t1\nso bad\t0\n");
  const std::string model = R"(model={"path": ")" + place.path("language") + R"(", "task": "classification"})";
  const Outcome started =
      place.run({"init", place.path("config.json"), place.path("score"), "--set", model, "--set", "data.sequence_length=16"});
  ASSERT_EQ(started.status, 0) << started.err;
  EXPECT_SAYS(started.out, "first values (seed 3): score.weight");
  const json config = json::parse(place.read("score/config.json"));
  EXPECT_EQ(config["architectures"], json::array({"GPT2ForSequenceClassification"}));
  EXPECT_EQ(config["pad_token_id"], 256) << "the end of a text, with which the byte tokenizer fills up";
  // It predicts no token.
  const Outcome text = place.run({"generate", "--model", place.path("score"), "--prompt", "a"});
  EXPECT_EQ(text.status, 2);
  EXPECT_SAYS(text.err, "predicts no next token");
}

}  // namespace
}  // namespace zerostep::testing
