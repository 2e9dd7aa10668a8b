#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/error.h"
#include "experiments/sweep/points.h"
#include "experiments/sweep/reasons.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using testing::message_of;
using Names = std::vector<std::string>;

constexpr const char* kBase = R"({"train_batch_size": 4, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 257},
  "data": {"train": "text.txt", "tokenizer": "byte", "sequence_length": 16}, "run": {"steps": 8}})";

class SweepPoints : public ::testing::Test {
 protected:
  // Of a sweep file with these blocks beside its base.
  SweepFile file(const std::string& blocks) {
    const std::string path = scratch_.path("sweep.json");
    std::ofstream(path) << "{\"base\": " << kBase << (blocks.empty() ? "" : ", ") << blocks << "}";
    return read_sweep_file(path);
  }
  std::vector<SweepPoint> points(const std::string& blocks, const std::vector<Setting>& set = {}) {
    return points_of(file(blocks), {"sweep.json: base", kBase}, set);
  }
  Names names(const std::string& blocks) {
    Names out;
    for (const SweepPoint& point : points(blocks)) out.push_back(point.name);
    return out;
  }
  ScratchFolder scratch_;
};

TEST_F(SweepPoints, AreEveryCombinationAndEverySingleRunRepeated) {
  EXPECT_EQ(names(R"("grid": {"step.mode": ["fo", "zo"], "optimizer.params.lr": [0.1, 1e-4]}, "repeat": {"seed": [1, 2]},
                     "when": [{"if": {"step.mode": "zo"}, "grid": {"step.queries": [3, 5]}}], "runs": [{"run.steps": 4}])"),
            (Names{"lr=0.1,mode=fo,seed=1", "lr=0.1,mode=fo,seed=2", "lr=0.1,mode=zo,queries=3,seed=1", "lr=0.1,mode=zo,queries=3,seed=2",
                   "lr=0.1,mode=zo,queries=5,seed=1", "lr=0.1,mode=zo,queries=5,seed=2", "lr=0.0001,mode=fo,seed=1",
                   "lr=0.0001,mode=fo,seed=2", "lr=0.0001,mode=zo,queries=3,seed=1", "lr=0.0001,mode=zo,queries=3,seed=2",
                   "lr=0.0001,mode=zo,queries=5,seed=1", "lr=0.0001,mode=zo,queries=5,seed=2", "steps=4,seed=1", "steps=4,seed=2"}));
  EXPECT_EQ(names(""), Names{"base"});
  EXPECT_EQ(names(R"("repeat": {"seed": [7, 8]})"), (Names{"seed=7", "seed=8"}));
  EXPECT_EQ(names(R"("runs": [{"seed": 7}])"), Names{"seed=7"});
}

TEST_F(SweepPoints, RowsHaveTheirValuesAsTheRunHasThem) {
  const std::vector<SweepPoint> all = points(R"("grid": {"optimizer.type": ["adamw"], "data.train": ["text.txt"], "model.n_embd": [32]})");
  ASSERT_EQ(all.size(), 1u);
  const auto run = nlohmann::json::parse(all[0].loaded.resolved_json);
  for (const auto& [path, value] : resolved_values(all[0])) {
    std::string pointer = "/" + path;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    EXPECT_EQ(value, run.at(nlohmann::json::json_pointer(pointer))) << path;
    if (path == "optimizer.type") {
      EXPECT_EQ(value, "AdamW");
    }
  }
}

TEST_F(SweepPoints, HaveTheValuesOfTheirNames) {
  const std::vector<SweepPoint> all =
      points(R"("grid": {"step.mode": ["zo"], "step.queries": [3, 5]})", {{"run.steps=2", "--set run.steps=2"}});
  ASSERT_EQ(all.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(all[i].loaded.config.step.queries, i == 0 ? 3 : 5);
    EXPECT_EQ(all[i].loaded.config.run.steps, 2);
    EXPECT_EQ(all[i].loaded.config.optimizer.lr, 1e-3);
  }
}

TEST_F(SweepPoints, ThatDifferInNothingThatHasAnEffectAreOne) {
  EXPECT_EQ(names(R"("grid": {"step.mode": ["fo", "zo"], "step.queries": [3, 5]})"),
            (Names{"mode=fo", "mode=zo,queries=3", "mode=zo,queries=5"}));
  EXPECT_EQ(names(R"("grid": {"step.mode": ["zo"], "step.rank": [2, 3]})"), Names{"mode=zo"});
  EXPECT_EQ(names(R"("grid": {"seed": [1, 2, 1]})"), (Names{"seed=1", "seed=2"}));
  EXPECT_EQ(names(R"("grid": {"seed": [1]}, "runs": [{"seed": 1}, {"seed": 2}])"), (Names{"seed=1", "seed=2"}));
  EXPECT_EQ(names(R"("grid": {"run.checkpoint_interval": [2, 4, 2]})"), (Names{"checkpoint_interval=2", "checkpoint_interval=4"}));
}

TEST_F(SweepPoints, NamesAreShortFitForFoldersAndApart) {
  // Lists and objects have short texts of their own, whatever else is in the file.
  EXPECT_EQ(names(R"("grid": {"data.train": [["a/b.txt"], ["a/b.txt", "c d.txt"]]})"), (Names{"train=b", "train=b+c_d"}));
  EXPECT_EQ(names(R"("grid": {"data.train": [["c.txt"], ["a/b.txt", "c d.txt"]]})"), (Names{"train=c", "train=b+c_d"}));
  // The end of a key by which it is named does not depend on the others either.
  EXPECT_EQ(names(R"("grid": {"zero_optimization.offload_param.device": ["cpu"], "zero_optimization.offload_optimizer.device": ["cpu"],
                              "zero_optimization.stage": [3]})"),
            Names{"offload_optimizer.device=cpu,offload_param.device=cpu,stage=3"});
  EXPECT_EQ(names(R"("grid": {"zero_optimization.offload_param.device": ["cpu"], "zero_optimization.stage": [3]})"),
            Names{"offload_param.device=cpu,stage=3"});
  const Names longest = names(fmt::format(R"("grid": {{"data.train": ["{0}a.txt", "{0}b.txt"]}})", std::string(200, 'x')));
  ASSERT_EQ(longest.size(), 2u);
  EXPECT_NE(longest[0], longest[1]);
  EXPECT_LT(longest[0].size(), 200u);
}

TEST_F(SweepPoints, MixturesAreNamedByTheirSourcesAndWeights) {
  const std::string alpha = R"({"name": "alpha", "files": "data/a.jsonl", "weight": 3, "text": "body"})";
  EXPECT_EQ(names(R"("grid": {"data.train": [[)" + alpha + R"(, {"files": ["data/beta.jsonl"], "weight": 1}],
                                             [)" +
                  alpha + R"(, {"files": ["data/beta.jsonl"], "weight": 0.5}]],
                              "step.mode": ["fo", "zo"]})"),
            (Names{"train=alpha_3+beta_1,mode=fo", "train=alpha_3+beta_1,mode=zo", "train=alpha_3+beta_0.5,mode=fo",
                   "train=alpha_3+beta_0.5,mode=zo"}));
  // Of two that differ in what the name does not say, the second has a hash.
  const Names alike = names(R"("grid": {"data.train": [[{"files": "a/x.txt"}, "y.txt"], [{"files": "b/x.txt"}, "y.txt"]]})");
  ASSERT_EQ(alike.size(), 2u);
  EXPECT_EQ(alike[0], "train=x+y");
  EXPECT_EQ(alike[1].substr(0, 10), "train=x+y-");
  // Many sources, and long values beside others, leave every key to be seen.
  std::string many;
  for (int i = 0; i < 20; ++i) many += fmt::format("{}\"data/source{}.txt\"", i == 0 ? "" : ", ", i);
  const Names cut =
      names(R"("grid": {"data.train": [[)" + many + R"(]], "data.tokenizer": [")" + std::string(200, 'x') + R"("], "seed": [7]})");
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0].substr(0, 18), "tokenizer=xxxxxxxx");
  EXPECT_NE(cut[0].find(",train=source0+source1+source2+source3+16more,"), std::string::npos) << cut[0];
  EXPECT_NE(cut[0].find(",seed=7-"), std::string::npos) << cut[0];
  EXPECT_LE(cut[0].size(), 159u);
}

// What differs only in characters that no folder's name has, a value that looks like a name with a number, and one that looks like two
// keys.
TEST_F(SweepPoints, NoTwoPointsHaveOneNameAndOthersDoNotChangeIt) {
  const std::vector<std::string> values{"aa/b", "aa b", "aa_b", "aa_b-2", "aa/b-2", "aa_b,seed=7"};
  std::map<std::string, std::string> all;
  const auto list = [](const std::vector<std::string>& of) { return nlohmann::json(of).dump(); };
  const Names together = names(R"("grid": {"data.tokenizer": )" + list(values) + "}");
  ASSERT_EQ(together.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(all.emplace(together[i], values[i]).second) << values[i] << " and " << all.at(together[i]) << " are " << together[i];
    EXPECT_EQ(together[i].find_first_of("/ "), std::string::npos);
    EXPECT_EQ(names(R"("grid": {"data.tokenizer": )" + list({values[i]}) + "}"), Names{together[i]});
  }
  EXPECT_EQ(together[2], "tokenizer=aa_b");
  EXPECT_EQ(together[3], "tokenizer=aa_b-2");
}

// A text is not the value that it reads as, whichever of them comes first.
TEST_F(SweepPoints, ATextThatReadsAsAnotherValueHasANameOfItsOwn) {
  const Names text = names(R"("grid": {"data.tokenizer": ["null"]})");
  ASSERT_EQ(text.size(), 1u);
  EXPECT_EQ(text[0].substr(0, text[0].rfind('-')), "tokenizer=null");
  EXPECT_EQ(names(R"("grid": {"data.tokenizer": [null, "null"]})"), (Names{"tokenizer=null", text[0]}));
  EXPECT_EQ(names(R"("grid": {"data.tokenizer": ["null", null]})"), (Names{text[0], "tokenizer=null"}));
}

// One configuration is one run, however it is spelled.
TEST_F(SweepPoints, SpellingsOfOneConfigurationAreOne) {
  EXPECT_EQ(names(R"("runs": [{"model.dropout": 0.1}, {"model.resid_pdrop": 0.1, "model.embd_pdrop": 0.1, "model.attn_pdrop": 0.1},
                              {"model.resid_pdrop": 0.1}])"),
            (Names{"dropout=0.1", "resid_pdrop=0.1"}));
  EXPECT_EQ(names(R"("runs": [{"data.train": "a.txt"}, {"data.train": ["a.txt"]}, {"data.train": {"files": ["a.txt"]}},
                              {"data.train": {"files": "a.txt", "max_documents": 3}}])")
                .size(),
            2u);
  EXPECT_EQ(names(R"("runs": [{"optimizer.params.lr": 1}, {"optimizer.params.lr": 1.0}, {"train_micro_batch_size_per_gpu": 4},
                              {"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 2}])"),
            (Names{"lr=1", "train_micro_batch_size_per_gpu=4", "gradient_accumulation_steps=2"}));
  const std::string sizes = kBase, preset = "{\"preset\": \"gpt2-20M\"}";
  std::string spelled = sizes;
  const size_t begin = spelled.find("{\"family\"");
  spelled.replace(begin, spelled.find('}', begin) + 1 - begin,
                  R"({"family": "gpt2", "n_layer": 6, "n_embd": 256, "n_head": 4, "n_positions": 512, "vocab_size": 50257})");
  std::string named = sizes;
  named.replace(begin, named.find('}', begin) + 1 - begin, preset);
  const auto identity = [&](const std::string& text) { return identity_of(points_of(file(""), {"base", text}, {}).at(0).loaded); };
  EXPECT_TRUE(identity(spelled).is_same(identity(named)));
  EXPECT_FALSE(identity(spelled).is_same(identity(sizes)));
}

TEST_F(SweepPoints, HaveAValueOfEveryKeyThatIsSweptAndHasAnEffect) {
  const std::vector<SweepPoint> all = points(
      R"("grid": {"step.mode": ["fo", "zo"]}, "when": [{"if": {"step.mode": "fo"}, "grid": {"optimizer.params.lr": [0.1]}},
                                                        {"if": {"step.mode": "zo"}, "grid": {"step.queries": [3]}}],
         "runs": [{"run.steps": 5}])");
  const auto values = [&](size_t i) {
    std::map<std::string, std::string> out;
    for (const auto& [path, value] : all.at(i).values) out[path] = value.dump();
    return out;
  };
  using Values = std::map<std::string, std::string>;
  EXPECT_EQ(values(0), (Values{{"step.mode", "\"fo\""}, {"optimizer.params.lr", "0.1"}}));
  EXPECT_EQ(values(1), (Values{{"step.mode", "\"zo\""}, {"optimizer.params.lr", "0.001"}, {"step.queries", "3"}}));
  EXPECT_EQ(values(2), (Values{{"run.steps", "5"}, {"step.mode", "\"fo\""}, {"optimizer.params.lr", "0.001"}}));
  EXPECT_EQ(all[1].name, "mode=zo,queries=3") << "what it does not set is not in its name";
}

TEST_F(SweepPoints, AllThatIsWrongIsSaidAtOnceByName) {
  const std::string wrong = message_of<InputError>([&] { points(R"("grid": {"train_micro_batch_size_per_gpu": [1, 3, 5, 2]})"); });
  EXPECT_SAYS(wrong, "2 of 4 points cannot run, and nothing was started");
  EXPECT_SAYS(wrong, "train_micro_batch_size_per_gpu=3: ");
  EXPECT_SAYS(wrong, "train_micro_batch_size_per_gpu=5: ");
  EXPECT_EQ(wrong.find("train_micro_batch_size_per_gpu=1: "), std::string::npos);
  EXPECT_SAYS(message_of<InputError>([&] {
                points(R"("grid": {"seed": [1, 2]})", {{"seed=3", "--set seed=3"}});
              }),
              "--set seed=3: seed is swept by the file");
}

TEST(Reasons, OneReasonOfSeveralPointsIsSaidOnce) {
  EXPECT_EQ(reasons_of({{"a", "x"}, {"b", "y"}, {"c", "x"}}, 4), ":\n  a, c: x\n  b: y");
  EXPECT_EQ(reasons_of({{"a", "x"}, {"b", "x"}}, 2), ": every point: x");
  EXPECT_EQ(reasons_of({{"a", "x"}, {"b", "y"}}, 2), ":\n  a: x\n  b: y");
  EXPECT_EQ(reasons_of({{"a", "x"}, {"a", "y"}, {"b", "x"}}, 2), ":\n  every point: x\n  a: y");
  EXPECT_EQ(reasons_of({{"a", "x"}}, 1), ":\n  a: x");
  EXPECT_EQ(num_points_of({{"a", "x"}, {"a", "y"}, {"b", "x"}}), 2u);
}

TEST_F(SweepPoints, WhatWouldHaveNoEffectIsRefused) {
  EXPECT_SAYS(
      message_of<InputError>([&] { points(R"("grid": {"seed": [1]}, "when": [{"if": {"seed": 2}, "grid": {"run.steps": [3]}}])"); }),
      "when[0].if: no point of `grid` has these values");
  EXPECT_SAYS(message_of<InputError>([&] {
                points("", {{"run.name=x", "--set run.name=x"}});
              }),
              "--set run.name=x: each run has a folder of its own");
  // A condition on what the base says.
  EXPECT_EQ(names(R"("grid": {"seed": [1]}, "when": [{"if": {"run.steps": 8}, "grid": {"optimizer.params.lr": [0.1]}}])"),
            Names{"seed=1,lr=0.1"});
}

TEST_F(SweepPoints, ShareTheTokensThatAreMadeOnce) {
  EXPECT_EQ(points("")[0].set.back().text, R"(data.cache="runs/.cache")");
  EXPECT_EQ(points("")[0].cache, "runs/.cache");
  EXPECT_EQ(points("", {{"data.cache=mine", "--set data.cache=mine"}})[0].cache, "mine");
  EXPECT_TRUE(points("", {{"data.cache=mine", "--set data.cache=mine"}})[0].set.back().text.starts_with("data.cache=mine"));
}

TEST_F(SweepPoints, PatternsMatchNames) {
  EXPECT_TRUE(matches("lr=0.1,mode=zo,queries=3", "*zo*"));
  EXPECT_TRUE(matches("mode=zo", "mode=?o"));
  EXPECT_FALSE(matches("mode=fo", "*zo*"));
}

TEST_F(SweepPoints, MistypedKeysOfTheFileAreNamedWithTheNearest) {
  const auto said = [&](const std::string& blocks) { return message_of<InputError>([&] { points(blocks); }); };
  EXPECT_SAYS(said(R"("grid": {"step.queris": [1, 2]})"), "sweep.json: grid.step.queris is not a known key; the nearest is step.queries");
  EXPECT_SAYS(said(R"("gird": {})"), "sweep.json: gird is not a known key; the nearest is grid");
  EXPECT_SAYS(said(R"("grid": {"seed": [1]}, "when": [{"if": {"step.mode": "zo"}, "grid": {"step.epsilom": [1]}}])"),
              "when[0].grid.step.epsilom is not a known key; the nearest is step.epsilon");
  EXPECT_SAYS(said(R"("runs": [{"step.mode": "zo"}, {"run.stesp": 4}])"), "runs[1].run.stesp is not a known key; the nearest is run.steps");
  EXPECT_SAYS(said(R"("repeat": {"sede": [1]})"), "repeat.sede is not a known key; the nearest is seed");
  EXPECT_SAYS(said(R"("resources": {"jbos": 2})"), "resources.jbos is not a known key; the nearest is jobs");
  EXPECT_SAYS(said(R"("grid": {"step": [1]})"), "grid.step is a block; the path of one of its keys is expected");
  EXPECT_SAYS(said(R"("grid": {"run.name": ["a"]})"), "grid.run.name is set by the sweep");
  EXPECT_SAYS(said(R"("grid": {"seed": 3})"), "grid.seed is 3; a list of values is expected");
  for (const char* part : {"data.train[0].weight", "data.train.0.weight", "data.train.alpha.weight"})
    EXPECT_SAYS(said(fmt::format(R"("grid": {{"{}": [1, 2]}})", part)),
                fmt::format("sweep.json: grid.{} is a part of data.train, which is set as a whole", part));
  EXPECT_EQ(said(R"("grid": {"seed.x": [1]})").find("as a whole"), std::string::npos);
  const std::string several = said(R"("gird": {}, "repeat": {"sede": [1]})");
  EXPECT_SAYS(several, "gird is not");
  EXPECT_SAYS(several, "repeat.sede is not");
}

// What is wrong with the points besides is not kept for the next attempt.
TEST_F(SweepPoints, MistypedKeysHideNoErrorsOfPoints) {
  const std::string all = message_of<InputError>(
      [&] { points(R"("runs": [{"seed": 1, "model.n_layr": 2}, {"seed": -1}, {"optimizer.type": "AdamX"}], "repeat": {"sede": [1]})"); });
  EXPECT_SAYS(all, "sweep.json: repeat.sede is not a known key; the nearest is seed; ");
  EXPECT_SAYS(all, "sweep.json: runs[0].model.n_layr is not a known key; the nearest is model.n_layer\n");
  EXPECT_SAYS(all, "sweep.json: 2 of 3 points cannot run, and nothing was started:\n");
  EXPECT_SAYS(all, "\n  seed=-1: ");
  EXPECT_SAYS(all, "\n  optimizer.type=AdamX: ");
  // Without these keys there may be nothing to combine.
  EXPECT_SAYS(message_of<InputError>([&] {
                points(R"("grid": {"step.mdoe": ["zo"]}, "when": [{"if": {"step.mode": "zo"}, "grid": {"step.queries": [1]}}])");
              }),
              "grid.step.mdoe is not a known key; the nearest is step.mode");
}

// By a key, or else by the comment that begins so.
TEST_F(SweepPoints, TheFileMaySayWhatItAsks) {
  EXPECT_EQ(file(R"("asks": "which is better?")").asks, "which is better?");
  EXPECT_EQ(file("").asks, "");
  const auto asked = [&](const std::string& text) {
    const std::string path = scratch_.path("asks.json");
    std::ofstream(path) << text;
    return read_sweep_file(path).asks;
  };
  const std::string rest = std::string("{\"base\": ") + kBase + "}\n";
  EXPECT_EQ(asked("// Of mine.\n//\n// Asks: which of two,\n// fo or zo?\n//   zerostep sweep asks.json\n// More.\n" + rest),
            "which of two, fo or zo?");
  EXPECT_EQ(asked("// Asks: a?\n\n// b\n" + rest + "// Asks: c?\n"), "a?");
  EXPECT_EQ(asked("// Ask: a?\n" + rest), "");
  EXPECT_SAYS(message_of<InputError>([&] { file(R"("asks": 3)"); }), "asks is 3; a text is expected");
}

TEST_F(SweepPoints, FilesOfRunsAndOfSweepsAreToldApart) {
  const std::string path = scratch_.path("run.json");
  std::ofstream(path) << kBase;
  EXPECT_SAYS(message_of<InputError>([&] { read_sweep_file(path); }), "run.json: is the file of a run, which `zerostep train` takes");
  file("");
  EXPECT_SAYS(message_of<InputError>([&] { load_config({.file = scratch_.path("sweep.json")}); }),
              "sweep.json: is a sweep file, of many runs");
}

TEST_F(SweepPoints, ValuesOfAnotherKindAreRefused) {
  const auto said = [&](const std::string& blocks) { return message_of<InputError>([&] { file(blocks); }); };
  EXPECT_SAYS(said(R"("resources": {"ranks": 0})"), "resources.ranks is 0; an integer from 1 to 4096 is expected");
  EXPECT_SAYS(said(R"("resources": {"gpus": [0, -1]})"), "resources.gpus is");
  EXPECT_SAYS(said(R"("resources": {"executor": "pbs"})"), "local or slurm is expected");
  EXPECT_SAYS(said(R"("search": {"rungs": [10, 10]})"), "search.rungs are expected to be rising");
  EXPECT_SAYS(said(R"("search": {"rungs": [10, 20], "keep": 1})"), "search.keep is 1");
  EXPECT_SAYS(said(R"("search": {"kind": "random", "rungs": [10, 20]})"), "halving is expected");
  EXPECT_SAYS(said(R"("name": "a/b")"), "name is 'a/b'");
  EXPECT_SAYS(said(R"("when": [{"grid": {"seed": [1]}}])"), "when[0].if is missing");
}

}  // namespace
}  // namespace zerostep
