#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

// A small BERT that learns which of two words a sentence holds, from a table of sentences of very different lengths.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class Classification : public ::testing::Test {
 protected:
  void SetUp() override {
    place_.write("train.tsv", rows(96, 0));
    place_.write("eval.csv", "label,text\n" + commas(rows(21, 7)));
    place_.write("bert.json", R"({
      "train_batch_size": 8, "train_micro_batch_size_per_gpu": 2, "seed": 3,
      "optimizer": {"type": "AdamW", "params": {"lr": 0.003}},
      "model": {"family": "bert", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
                "max_position_embeddings": 64, "classifier_pooling": "mean"},
      "data": {"train": ")" + place_.path("train.tsv") +
                                  R"(", "eval": ")" + place_.path("eval.csv") + R"(", "sequence_length": 48},
      "run": {"name": "test", "output_dir": ")" +
                                  place_.path("runs") + R"(", "steps": 160}, "steps_per_print": 10})");
  }
  // "text<tab>label": the label is 1 where the sentence says good.
  static std::string rows(int count, int salt) {
    std::string out;
    for (int i = 0; i < count; ++i) {
      const bool good = (i * 7 + salt) % 3 == 0;
      std::string text = good ? "good" : "bad";
      for (int w = 0; w < (i / 3 * 5 + salt) % 9; ++w) text = (w % 2 == 0 ? "so " : "very ") + text;
      out += text + "\t" + (good ? "1" : "0") + "\n";
    }
    return out;
  }
  // The same as "label,text" lines.
  static std::string commas(const std::string& table) {
    std::string out;
    for (size_t at = 0; at < table.size();) {
      const size_t tab = table.find('\t', at), end = table.find('\n', at);
      out += table.substr(tab + 1, end - tab - 1) + "," + table.substr(at, tab - at) + "\n";
      at = end + 1;
    }
    return out;
  }
  Outcome train(const std::vector<std::string>& set, int ranks = 1) const {
    std::vector<std::string> arguments{"train", place_.path("bert.json"), "--overwrite"};
    for (const std::string& s : set) arguments.insert(arguments.end(), {"--set", s});
    return place_.run(arguments, {.ranks = ranks});
  }
  std::vector<double> column(const std::string& run, const std::string& name) const { return place_.column(run, name); }
  Workplace place_;
};

TEST_F(Classification, LearnsAndReports) {
  const Outcome done = train({"run.checkpoint_interval=160"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "accuracy 1.0000");
  EXPECT_NEAR(column("test", "loss").front(), std::log(2), 0.3);
  EXPECT_LT(column("test", "loss").back(), 0.1);
  EXPECT_EQ(column("test", "eval_accuracy"), std::vector<double>{1.0});
  EXPECT_SAYS(done.out, "precision");
  const json kept = json::parse(place_.read("runs/test/classification.json"));
  EXPECT_EQ(kept["step"], 160);
  EXPECT_EQ(kept["confusion"], json::parse("[[14, 0], [0, 7]]"));
  // Tokens are those of the sentences, not of the padding: at most 48 each.
  const auto row = place_.metrics("test").front();
  const double tokens = std::stod(row.at("tokens_per_second")) * std::stod(row.at("step_seconds"));
  EXPECT_LT(tokens, 8 * 48 * 0.9);
  EXPECT_GE(tokens, 8 * 3);
  const std::string checkpoint = place_.path("runs/test/checkpoints/step_00000160");
  const Outcome machine = place_.run({"eval", place_.path("bert.json"), "--checkpoint", checkpoint, "--json"});
  ASSERT_EQ(machine.status, 0) << machine.err;
  const json report = json::parse(machine.out);
  EXPECT_EQ(report["accuracy"], 1.0);
  EXPECT_EQ(report["samples"], 21);
  EXPECT_NEAR(report["loss"].get<double>() / column("test", "eval_loss").back(), 1, 1e-6);
  // Every third of the 21 sentences is good.
  EXPECT_EQ(report["confusion"], json::parse("[[14, 0], [0, 7]]"));
  const Outcome text = place_.run({"eval", place_.path("bert.json"), "--checkpoint", checkpoint});
  for (const char* part : {"precision", "recall", "F1"}) EXPECT_SAYS(text.out, part);
  // Exported it is the same model; text it does not write.
  ASSERT_EQ(place_.run({"export", checkpoint, place_.path("model")}).status, 0);
  const Outcome exported = place_.run({"eval", place_.path("bert.json"), "--checkpoint", place_.path("model"), "--json"});
  EXPECT_EQ(json::parse(exported.out)["confusion"], report["confusion"]) << exported.err;
  EXPECT_EQ(place_.run({"generate", "--model", checkpoint, "--prompt", "good"}).status, 2);
}

// An exported classifier knows its classes by the data's names, and data is numbered as a model's classes are.
TEST_F(Classification, ClassesKeepTheirNames) {
  std::string table = rows(96, 0);
  for (size_t at = 0; (at = table.find("\t", at)) != std::string::npos; ++at) table.replace(at + 1, 1, table[at + 1] == '1' ? "yes" : "no");
  place_.write("train.tsv", table);
  place_.write("eval.csv", "label,text\n" + commas(table));
  ASSERT_EQ(train({"run.steps=120", "run.checkpoint_interval=120"}).status, 0);
  const std::string checkpoint = place_.path("runs/test/checkpoints/step_00000120"), model = place_.path("model");
  ASSERT_EQ(place_.run({"export", checkpoint, model}).status, 0);
  json config = json::parse(place_.read("model/config.json"));
  EXPECT_EQ(config["id2label"], json::parse(R"({"0": "no", "1": "yes"})"));
  const auto evaluate = [&](const std::string& directory) {
    const Outcome done = place_.run({"eval", place_.path("bert.json"), "--checkpoint", directory, "--json"});
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out);
  };
  const json report = evaluate(checkpoint), exported = evaluate(model);
  EXPECT_GT(report["accuracy"].get<double>(), 0.8);
  EXPECT_EQ(exported, report);
  // Another tool may have numbered them otherwise: the same logits are then said of the other class.
  config["id2label"] = {{"0", "yes"}, {"1", "no"}};
  place_.write("model/config.json", config.dump());
  const json other = evaluate(model);
  EXPECT_NEAR(other["accuracy"].get<double>(), 1 - report["accuracy"].get<double>(), 1e-12);
  EXPECT_EQ(other["confusion"],
            json::parse(fmt::format("[[{},{}],[{},{}]]", report["confusion"][1][0].dump(), report["confusion"][1][1].dump(),
                                    report["confusion"][0][0].dump(), report["confusion"][0][1].dump())));
}

TEST_F(Classification, RanksAndStagesSeeTheSameBatchesWhateverTheirLengths) {
  for (const char* mode : {"{\"mode\": \"fo\"}", "{\"mode\": \"zo\", \"queries\": 2, \"epsilon\": 1e-2}"}) {
    const std::string step = std::string("step=") + mode, steps = "run.steps=6";
    ASSERT_EQ(train({step, steps, "run.name=one"}).status, 0);
    const std::vector<double> expected = column("one", "loss");
    for (const int ranks : {2, 4})
      for (const int stage : {0, 2, 3}) {
        const Outcome done = train({step, steps, "zero_optimization.stage=" + std::to_string(stage)}, ranks);
        ASSERT_EQ(done.status, 0) << done.err;
        const std::vector<double> losses = column("test", "loss");
        ASSERT_EQ(losses.size(), expected.size());
        for (size_t s = 0; s < losses.size(); ++s)
          EXPECT_NEAR(losses[s] / expected[s], 1, 2e-5) << ranks << " ranks, stage " << stage << ", step " << s;
        EXPECT_NEAR(column("test", "eval_loss").back() / column("one", "eval_loss").back(), 1, 1e-4);
        EXPECT_EQ(column("test", "eval_accuracy"), column("one", "eval_accuracy"));
      }
  }
}

// The same sentences as prompts of a model of tokens: words of one byte, which are read off one row, and longer ones with a row each.
class Prompts : public Classification {
 protected:
  void SetUp() override {
    Classification::SetUp();
    gpt2_ = "model={\"family\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 32, \"n_head\": 2, \"n_positions\": 80, \"dropout\": 0}";
  }
  static constexpr const char *kTemplate = "data.template={text} => {label}", *kLetters = "data.label_words={\"0\": \"n\", \"1\": \"y\"}",
                              *kWords = "data.label_words=[\"no\", \"yes\"]";
  std::string gpt2_;
};

TEST_F(Prompts, ALanguageModelLearnsToClassifyByItsWords) {
  const std::vector<std::string> prompt{gpt2_, kTemplate, "data.sequence_length=72", kLetters};
  std::vector<std::string> set = prompt;
  set.insert(set.end(), {"run.steps=120", "run.checkpoint_interval=120"});
  const Outcome done = train(set);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_NEAR(column("test", "loss").front(), std::log(2), 0.3) << "of two words, not of the vocabulary";
  EXPECT_LT(column("test", "loss").back(), 0.2);
  EXPECT_EQ(column("test", "eval_accuracy"), std::vector<double>{1.0});
  const std::string checkpoint = place_.path("runs/test/checkpoints/step_00000120");
  std::vector<std::string> eval{"eval", place_.path("bert.json"), "--checkpoint", checkpoint, "--json"};
  for (const std::string& s : prompt) eval.insert(eval.end(), {"--set", s});
  const Outcome report = place_.run(eval);
  ASSERT_EQ(report.status, 0) << report.err;
  EXPECT_EQ(json::parse(report.out)["confusion"], json::parse("[[14, 0], [0, 7]]"));
  // It is still a language model, whose likeliest next token is the word.
  const Outcome word = place_.run({"generate", "--model", checkpoint, "--prompt", "so good => ", "--tokens", "1", "--temperature", "0"});
  ASSERT_EQ(word.status, 0) << word.err;
  ASSERT_EQ(place_.run({"export", checkpoint, place_.path("model")}).status, 0);
  eval[3] = place_.path("model");
  EXPECT_EQ(json::parse(place_.run(eval).out)["confusion"], json::parse(report.out)["confusion"]);
  // Other words are other data.
  set.back() = "run.steps=130";
  set.push_back("data.label_words=[\"a\", \"b\"]");
  std::vector<std::string> resume{"train", place_.path("bert.json"), "--resume"};
  for (const std::string& s : set) resume.insert(resume.end(), {"--set", s});
  const Outcome refused = place_.run(resume);
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "data");
}

// A directory that its config.json does not call a BertForMaskedLM, but that holds one.
TEST_F(Prompts, AMaskedModelIsReadWhateverItsDirectoryIsFor) {
  const std::vector<std::string> settings{
      "model={\"family\": \"bert\", \"num_hidden_layers\": 1, \"hidden_size\": 32, \"intermediate_size\": 64, "
      "\"num_attention_heads\": 2, \"max_position_embeddings\": 64}",
      "data.tokenizer=" + std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/tests/models/reference/tokenizers/vocab.txt", kTemplate,
      kWords};
  const auto command = [&](std::vector<std::string> begin) {
    for (const std::string& s : settings) begin.insert(begin.end(), {"--set", s});
    return place_.run(begin);
  };
  const std::string file = place_.path("bert.json"), model = place_.path("model");
  const Outcome made = command({"init", file, model});
  ASSERT_EQ(made.status, 0) << made.err;
  const Outcome expected = command({"eval", file, "--json"});
  ASSERT_EQ(expected.status, 0) << expected.err;
  for (const char* architecture : {"BertForMaskedLM", "BertForPreTraining", "BertModel"}) {
    json config = json::parse(place_.read("model/config.json"));
    config["architectures"] = {architecture};
    place_.write("model/config.json", config.dump());
    // Another seed: nothing is left to it.
    const Outcome found = command({"eval", file, "--checkpoint", model, "--json", "--set", "seed=5"});
    ASSERT_EQ(found.status, 0) << found.err << architecture;
    EXPECT_EQ(found.out, expected.out) << architecture;
  }
}

TEST_F(Prompts, EveryModeIsTheSameOnEveryNumberOfRanks) {
  const std::string bert =
      "model={\"family\": \"bert\", \"num_hidden_layers\": 2, \"hidden_size\": 32, \"intermediate_size\": 64, "
      "\"num_attention_heads\": 2, \"max_position_embeddings\": 64, \"hidden_dropout_prob\": 0.1}";
  const std::string words =
      "data.tokenizer=" + std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/tests/models/reference/tokenizers/vocab.txt";
  const std::string zo = "step={\"mode\": \"zo\", \"queries\": 2, \"epsilon\": 1e-2, ";
  struct Case {
    std::vector<std::string> model;
    std::string step;
    int ranks, stage;
  };
  const std::string fo = "step={\"mode\": \"fo\"}", gaussian = zo + "\"perturbation\": \"gaussian\"}",
                    own_batches = zo + "\"perturbation\": \"low_rank\", \"query_data\": \"independent\"}",
                    own_reduced = zo + "\"perturbation\": \"low_rank\", \"query_data\": \"independent\", \"scope\": \"reduced\"}",
                    reduced = zo + "\"perturbation\": \"low_rank\", \"scope\": \"reduced\", \"estimator\": \"forward\"}";
  for (const Case& c :
       {Case{{gpt2_, kLetters}, fo, 4, 3}, Case{{gpt2_, kLetters}, gaussian, 2, 2}, Case{{gpt2_, kWords}, fo, 2, 3},
        Case{{gpt2_, kWords}, own_batches, 2, 0}, Case{{bert, words, kWords}, fo, 2, 3}, Case{{bert, words, kWords}, gaussian, 2, 3},
        Case{{gpt2_, kLetters, "model.tie_word_embeddings=false"}, own_reduced, 2, 0}, Case{{bert, words, kWords}, reduced, 2, 2}}) {
    std::vector<std::string> set = c.model;
    set.insert(set.end(), {kTemplate, "data.sequence_length=60", c.step, "run.steps=4"});
    std::vector<std::string> one = set;
    one.push_back("run.name=one");
    const Outcome first = train(one);
    ASSERT_EQ(first.status, 0) << first.err << c.step;
    const std::vector<double> expected = column("one", "loss");
    ASSERT_EQ(expected.size(), 4);
    set.push_back("zero_optimization.stage=" + std::to_string(c.stage));
    const Outcome done = train(set, c.ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    const std::vector<double> losses = column("test", "loss");
    ASSERT_EQ(losses.size(), expected.size());
    for (size_t s = 0; s < losses.size(); ++s) EXPECT_NEAR(losses[s] / expected[s], 1, 2e-5) << c.ranks << " ranks, " << c.step << s;
    EXPECT_NEAR(column("test", "eval_loss").back() / column("one", "eval_loss").back(), 1, 1e-4);
  }
}

TEST_F(Prompts, MistakesAreNamed) {
  struct Case {
    std::vector<std::string> set;
    std::string says;
  };
  const std::string data_template = kTemplate;
  for (const Case& c : {Case{{gpt2_, data_template}, "data.label_words"}, Case{{gpt2_, kWords}, "data.template"},
                        Case{{gpt2_, data_template, "data.label_words=[\"a\"]"}, "data.label_words"},
                        Case{{gpt2_, data_template, "data.label_words=\"a\""}, "data.label_words"},
                        Case{{gpt2_, data_template, "data.label_words={\"0\": \"a\", \"2\": \"b\"}"}, "'1'"},
                        Case{{gpt2_, "data.template={text} is", kWords}, "{label}"},
                        Case{{gpt2_, data_template, kWords, "model.task=causal_lm"}, "model.task"},
                        Case{{gpt2_, data_template, kWords, "data.sequence_length=5"}, "data.sequence_length"},
                        Case{{data_template, kWords}, "model.classifier_pooling"}}) {
    const Outcome refused = train(c.set);
    EXPECT_EQ(refused.status, 2) << c.says;
    EXPECT_SAYS(refused.err, c.says);
  }
}

TEST_F(Classification, WhatDoesNotFitIsNamed) {
  struct Case {
    std::vector<std::string> set;
    std::string says;
  };
  place_.write("three.tsv", rows(9, 0) + "what\t2\n");
  place_.write("broken.tsv", "good\t1\nbad\n");
  for (const Case& c : {Case{{"model.task=causal_lm"}, "model.task"}, Case{{"data.train=\"" + place_.path("three.tsv") + "\""}, "labels"},
                        Case{{"data.train=\"" + place_.path("broken.tsv") + "\""}, "broken.tsv"},
                        Case{{"data.eval=\"" + place_.path("three.tsv") + "\""}, "three.tsv"},
                        Case{{"data.label_field=sentiment"}, "the header, has no column"}, Case{{"model.n_layer=2"}, "bert"},
                        Case{{"model={\"preset\": \"gpt2-20M\", \"num_labels\": 2}"}, "model.task"}}) {
    const Outcome refused = train(c.set);
    EXPECT_EQ(refused.status, 2) << c.set[0];
    EXPECT_SAYS(refused.err, c.says);
    EXPECT_FALSE(place_.exists("runs/test/metrics.csv")) << c.set[0];
  }
}

TEST_F(Classification, SourcesAreMixedAndEvaluatedByName) {
  place_.write("more.tsv", rows(40, 3));
  const auto set = [&](const std::string& name, const std::string& file, const std::string& more) {
    return "{\"name\": \"" + name + "\", \"files\": \"" + place_.path(file) + "\"" + more + "}";
  };
  const std::string train_sets =
      "data.train=[" + set("one", "train.tsv", ", \"weight\": 1") + ", " + set("two", "more.tsv", ", \"weight\": 1") + "]";
  const std::string eval_sets = "data.eval=[" + set("small", "eval.csv", "") + ", " + set("large", "train.tsv", "") + "]";
  const Outcome done = train({train_sets, eval_sets, "run.steps=20", "run.eval_interval=10"});
  ASSERT_EQ(done.status, 0) << done.err;
  for (const char* name : {"eval_loss.small", "eval_loss.large", "eval_accuracy.small", "eval_accuracy.large"})
    EXPECT_EQ(column("test", name).size(), 2U) << name;
  EXPECT_EQ(column("test", "eval_accuracy.small"), column("test", "eval_accuracy"));
  const json kept = json::parse(place_.read("runs/test/classification.json"));
  EXPECT_EQ(kept["sets"]["large"]["samples"], 96);
  EXPECT_NEAR(kept["sets"]["large"]["accuracy"].get<double>(), column("test", "eval_accuracy.large").back(), 1e-12);
  // Runs of 64 batches are sorted by length, so that shares hold at their ends: an epoch of 136 samples is 17 batches of 8.
  const Outcome batches = place_.run({"inspect", "batches", place_.path("bert.json"), "--steps", "17", "--set", train_sets});
  ASSERT_EQ(batches.status, 0) << batches.err;
  EXPECT_NEAR(static_cast<double>(count(batches.out, "\"one\"")), 68, 1);
  EXPECT_NEAR(static_cast<double>(count(batches.out, "\"two\"")), 68, 1);
}

}  // namespace
}  // namespace zerostep::testing
