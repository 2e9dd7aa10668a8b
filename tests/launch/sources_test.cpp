#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/unfinished_file.h"
#include "tests/launch/support/run_binary.h"

// Sources, mixtures and evaluation sets from the file of a run to what it leaves behind.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class Sources : public ::testing::Test {
 protected:
  void SetUp() override {
    place_.config();
    for (const char letter : {'a', 'b', 'c'}) {
      std::string rows;
      for (int i = 0; i < 60; ++i)
        rows += "{\"body\": \"" + std::string(static_cast<size_t>(20 + i % 9), letter) + " " + std::to_string(i) + "\"}\n";
      place_.write(std::string(1, letter) + ".jsonl", rows);
    }
  }
  json source(const std::string& name, const json& more = json::object()) const {
    json out{{"name", name}, {"files", place_.path(name + ".jsonl")}, {"text", "{body}"}};
    out.update(more);
    return out;
  }
  // The data block of the file, changed.
  static std::string data(json change) {
    change["sequence_length"] = 16;
    return "data=" + change.dump();
  }
  json mixture() const { return {{"train", {source("a", {{"weight", 0.75}}), source("b", {{"weight", 0.25}})}}}; }
  Outcome run(std::vector<std::string> command, const std::vector<std::string>& set, const std::vector<std::string>& more = {},
              int ranks = 1) const {
    command.push_back(place_.path("config.json"));
    command.insert(command.end(), more.begin(), more.end());
    for (const std::string& s : set) command.insert(command.end(), {"--set", s});
    return place_.run(command, {.ranks = ranks});
  }
  Outcome train(const std::vector<std::string>& set, const std::vector<std::string>& more = {"--overwrite"}, int ranks = 1) const {
    return run({"train"}, set, more, ranks);
  }
  std::vector<json> batches(const std::vector<std::string>& set, int steps) const {
    const Outcome done = run({"inspect", "batches"}, set, {"--steps", std::to_string(steps)});
    EXPECT_EQ(done.status, 0) << done.err;
    std::vector<json> out;
    std::istringstream lines(done.out);
    for (std::string line; std::getline(lines, line);) out.push_back(json::parse(line));
    return out;
  }
  Workplace place_;
};

TEST_F(Sources, AMixtureIsCountedAndNamed) {
  int64_t of_a = 0, samples = 0;
  for (const json& line : batches({data(mixture())}, 100)) {
    ASSERT_EQ(line["sources"].size(), line["samples"].size());
    for (size_t j = 0; j < line["samples"].size(); ++j) {
      const auto tokens = line["samples"][j].get<std::vector<int>>();
      const bool is_a = std::count(tokens.begin(), tokens.end(), 'a') > std::count(tokens.begin(), tokens.end(), 'b');
      EXPECT_EQ(line["sources"][j], is_a ? "a" : "b");
      of_a += is_a;
      ++samples;
      EXPECT_NEAR(static_cast<double>(of_a), 0.75 * static_cast<double>(samples), 1);
    }
  }
  EXPECT_EQ(samples, 400);
  EXPECT_FALSE(batches({data({{"train", source("a")}})}, 1)[0].contains("sources"));
  const Outcome done = train({data(mixture()), "run.steps=300"});
  ASSERT_EQ(done.status, 0) << done.err;
  // 60 documents of 24 to 31 bytes with their ends are about 100 samples of 16 tokens; 900 of 1,200 samples are a's.
  EXPECT_SAYS(done.out, "source         a: 75 % of the samples, out of");
  EXPECT_SAYS(done.out, "source         b: 25 % of the samples, out of");
  EXPECT_SAYS(done.out, "times in the 1,200 of the run");
}

TEST_F(Sources, AMixtureIsTheSameRunAtEveryWorldSize) {
  std::vector<std::vector<double>> losses;
  for (const int ranks : {1, 2, 4}) {
    const Outcome done = train({data(mixture()), "run.steps=8"}, {"--overwrite"}, ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    losses.push_back(place_.column("test", "loss"));
  }
  // The batches are the same; sums over ranks are rounded in another order.
  for (size_t i = 0; i < losses[0].size(); ++i)
    for (const auto& other : losses) EXPECT_NEAR(other[i] / losses[0][i], 1, 1e-5);
  // Half of it on two ranks, the rest on one.
  const std::vector<std::string> set{data(mixture()), "run.steps=8", "run.checkpoint_interval=4"};
  ASSERT_EQ(train(set, {"--overwrite", "--stop-after", "4"}, 2).status, 0);
  const Outcome resumed = train(set, {"--resume"}, 1);
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  const std::vector<double> joined = place_.column("test", "loss");
  ASSERT_EQ(joined.size(), 8U);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(joined[i] / losses[0][i], 1, 1e-5) << i;
  // Other weights are another run.
  json other = mixture();
  other["train"][0]["weight"] = 0.5;
  const Outcome refused = train({data(other), "run.steps=12", "run.checkpoint_interval=4"}, {"--resume"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "data.train[0].weight is 0.5 here and 0.75 in the checkpoint");
}

// An epoch of a mixture is as many samples as its sources have together.
TEST_F(Sources, EpochsOfAMixtureAreCounted) {
  const Outcome plain = run({"inspect", "batches"}, {data({{"train", {source("a"), source("b")}}})}, {"--steps", "1"});
  ASSERT_EQ(plain.status, 0);
  const auto samples_of = [&](const std::string& name) {
    const Outcome done = run({"doctor"}, {data({{"train", source(name)}})}, {"--json"});
    const size_t at = done.out.find("data.train: ");
    EXPECT_NE(at, std::string::npos) << done.out << done.err;
    return std::stoll(done.out.substr(at + 12));
  };
  const int64_t all = samples_of("a") + samples_of("b");
  json with_eval = mixture();
  with_eval["eval"] = source("c");
  const Outcome done = train({data(with_eval), "run.steps=null", "run.epochs=2", "run.eval_interval=epoch"});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = place_.metrics("test");
  EXPECT_EQ(static_cast<int64_t>(rows.size()), 2 * all / 4);
  std::vector<size_t> evaluated, ends;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].at("eval_loss").empty()) evaluated.push_back(i);
    if (static_cast<int64_t>(i + 1) * 4 / all != static_cast<int64_t>(i) * 4 / all || i + 1 == rows.size()) ends.push_back(i);
  }
  EXPECT_EQ(evaluated, ends);
}

TEST_F(Sources, NamedEvaluationSetsAreColumnsAndTheFirstIsEvalLoss) {
  const json sets{source("b"), source("c")};
  const std::vector<std::string> interval{"run.eval_interval=2", "run.steps=5"};
  const auto with = [&](const json& eval) {
    std::vector<std::string> set{data({{"train", source("a")}, {"eval", eval}})};
    set.insert(set.end(), interval.begin(), interval.end());
    return set;
  };
  const Outcome done = train(with(sets));
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "evaluation after step 4: b: loss ");
  const auto b = place_.column("test", "eval_loss.b"), c = place_.column("test", "eval_loss.c"), first = place_.column("test", "eval_loss");
  ASSERT_EQ(b.size(), 3U);
  EXPECT_EQ(b, first);
  for (const auto& [name, values] : {std::pair("b", b), std::pair("c", c)}) {
    ASSERT_EQ(train(with(source(name))).status, 0);
    const auto alone = place_.column("test", "eval_loss");
    ASSERT_EQ(alone.size(), values.size());
    for (size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(alone[i] / values[i], 1, 1e-6);
    EXPECT_FALSE(place_.metrics("test")[0].contains(std::string("eval_loss.") + name));
  }
  const Outcome said = run({"eval"}, with(sets), {"--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  const json parsed = json::parse(said.out);
  EXPECT_EQ(parsed["sets"]["b"]["loss"], parsed["loss"]);
  EXPECT_NE(parsed["sets"]["c"]["loss"], parsed["loss"]);
  EXPECT_SAYS(run({"eval"}, with(sets)).out, "c: loss ");
}

TEST_F(Sources, ATestSetIsEvaluatedOnceAtTheEnd) {
  const std::vector<std::string> set{data({{"train", source("a")}, {"test", source("c")}}), "run.checkpoint_interval=4"};
  const Outcome done = train(set);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(count(done.out, "test after step 4: loss "), 1U) << done.out;
  const json kept = json::parse(place_.read("runs/test/test.json"));
  EXPECT_EQ(kept["step"], 4);
  const Outcome said = run({"eval"}, {data({{"train", source("a")}, {"eval", source("c")}})},
                           {"--checkpoint", place_.path("runs/test/checkpoints/step_00000004"), "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  EXPECT_NEAR(kept["loss"].get<double>() / json::parse(said.out)["loss"].get<double>(), 1, 1e-6);
  EXPECT_TRUE(place_.column("test", "eval_loss").empty());
  // A run that stops before its end tests nothing.
  const Outcome stopped = train(set, {"--overwrite", "--stop-after", "2"});
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_EQ(count(stopped.out, "test after"), 0U);
  EXPECT_FALSE(place_.exists("runs/test/test.json"));
}

TEST_F(Sources, WhatACatalogueNamesAndIsNotHereIsSaid) {
  place_.write("datasets.json", R"({"gone": {"files": "gone/*.jsonl", "source": "made here: make gone"}})");
  const Outcome done = train({data({{"catalogue", place_.path("datasets.json")}, {"train", "gone"}})});
  EXPECT_EQ(done.status, 2);
  EXPECT_SAYS(done.err, "data.train (gone of the catalogue " + place_.path("datasets.json") + ")");
  EXPECT_SAYS(done.err, place_.path("gone/*.jsonl"));
  EXPECT_SAYS(done.err, "; the catalogue " + place_.path("datasets.json") + " says of it: made here: make gone");
}

TEST_F(Sources, DataListNamesTheCatalogue) {
  place_.write("datasets.json", R"({"here": {"files": "a.jsonl", "size": "60 rows"}, "gone": {"files": "gone/*.jsonl"}})");
  const Outcome text = place_.run({"data", "list", "--catalogue", place_.path("datasets.json")});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_SAYS(text.out, "here  yes   60 rows");
  EXPECT_SAYS(text.out, "gone  -");
  EXPECT_SAYS(text.out, "\"data\": {\"train\": \"NAME\", \"catalogue\": \"" + place_.path("datasets.json") + "\"}.");
  EXPECT_EQ(text.out.find("data fetch"), text.out.npos);  // none is of a hub
  const Outcome machine = place_.run({"data", "list", "--catalogue", place_.path("datasets.json"), "--json"});
  const json parsed = json::parse(machine.out);
  EXPECT_EQ(parsed["data_sets"][1]["name"], "here");
  EXPECT_EQ(parsed["data_sets"][1]["files"][0], place_.path("a.jsonl"));
  EXPECT_EQ(parsed["data_sets"][1]["here"], true);
  const Outcome wrong = place_.run({"data", "lst"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_SAYS(wrong.err, "list");
}

TEST_F(Sources, MergedFilesHoldEveryRowOnceInTheOrderOfTheSeed) {
  const auto merge = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> command{"data", "merge", place_.path(out), place_.path("a.jsonl"), place_.path("b.jsonl"), "--text", "{body}"};
    command.insert(command.end(), more.begin(), more.end());
    return place_.run(command);
  };
  const auto rows = [&](const std::string& file) {
    const Outcome done = place_.run({"data", "show", place_.path(file), "--rows", "1000", "--json"});
    EXPECT_EQ(done.status, 0) << done.err;
    std::vector<std::string> out;
    const json shown = json::parse(done.out);
    for (const json& row : shown["first"]) out.push_back(row["text"]);
    return out;
  };
  const Outcome done = merge("x.parquet", {"--shuffle", "7"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "120 rows in");
  const json told = json::parse(place_.read("x.json"));
  EXPECT_EQ(told["rows"], 120);
  EXPECT_EQ(told["sources"][0]["share"], 0.5);
  ASSERT_EQ(merge("y.parquet", {"--shuffle", "7"}).status, 0);
  ASSERT_EQ(merge("z.parquet", {"--shuffle", "8"}).status, 0);
  ASSERT_EQ(merge("plain.parquet", {}).status, 0);
  const auto x = rows("x.parquet"), y = rows("y.parquet"), z = rows("z.parquet"), plain = rows("plain.parquet");
  EXPECT_EQ(x, y);
  EXPECT_NE(x, z);
  EXPECT_NE(x, plain);
  EXPECT_EQ(plain.front().front(), 'a');
  EXPECT_EQ(plain.back().front(), 'b');
  for (auto shuffled : {x, z}) {
    auto sorted = plain;
    std::sort(sorted.begin(), sorted.end());
    std::sort(shuffled.begin(), shuffled.end());
    EXPECT_EQ(shuffled, sorted);
  }
  // The file says whence each row is.
  const auto p_of = [&](const std::string& file) {
    const Outcome checked = place_.run({"data", "check", place_.path(file), "--parts", "6", "--json"});
    EXPECT_EQ(checked.status, 0) << checked.err;
    return json::parse(checked.out)["chi_square"]["p"].get<double>();
  };
  EXPECT_GT(p_of("x.parquet"), 1e-4);
  EXPECT_LT(p_of("plain.parquet"), 1e-9);
  // Nothing is written over unasked, and what fails leaves nothing behind.
  EXPECT_EQ(merge("x.parquet", {"--shuffle", "9"}).status, 2);
  EXPECT_EQ(merge("x.txt", {}).status, 2);
  place_.write("bad.jsonl", "{\"body\": 3}\nno json\n");
  const Outcome bad = place_.run({"data", "merge", place_.path("new.parquet"), place_.path("bad.jsonl"), "--text", "{body}"});
  EXPECT_EQ(bad.status, 2) << bad.err;
  EXPECT_SAYS(bad.err, "bad.jsonl:2");
  for (const auto& entry : std::filesystem::directory_iterator(place_.path("")))
    EXPECT_FALSE(entry.path().filename().string().starts_with("new")) << entry.path();
}

// What a merge would replace beside its own former files stays; one process at a time writes a file.
TEST_F(Sources, AMergeReplacesNoSourceAndNothingOfOthers) {
  const auto merge = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"data", "merge"});
    more.insert(more.end(), {"--text", "{body}", "--overwrite"});
    return place_.run(more);
  };
  const auto refused = [&](std::vector<std::string> more, const std::vector<std::string>& says) {
    const Outcome done = merge(std::move(more));
    EXPECT_EQ(done.status, 2) << done.err;
    for (const std::string& part : says) EXPECT_SAYS(done.err, part);
  };
  const auto again = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"data", "merge"});
    more.push_back("--overwrite");
    return place_.run(more);
  };
  const std::string out = place_.path("o.parquet"), a = place_.path("a.jsonl");
  ASSERT_EQ(merge({out, a}).status, 0);
  ASSERT_EQ(merge({out, a}).status, 0) << "what it wrote before it replaces";
  const std::string whole = place_.read("o.parquet"), record = place_.read("o.json");
  std::filesystem::create_hard_link(out, place_.path("hard.parquet"));
  std::filesystem::create_symlink(out, place_.path("soft.parquet"));
  for (const std::string& source : {out, place_.path("o*.parquet"), place_.path("hard.parquet"), place_.path("soft.parquet")}) {
    const Outcome done = again({out, source});
    EXPECT_EQ(done.status, 2) << source << done.err;
    EXPECT_SAYS(done.err, "'" + out + "' is one of the sources");
  }
  EXPECT_EQ(again({place_.path("soft.parquet"), out}).status, 2);
  refused({place_.path("soft.parquet"), a}, {"soft.parquet' is a link, which the file would replace"});
  EXPECT_TRUE(std::filesystem::is_symlink(place_.path("soft.parquet")));
  // A run's file, which --overwrite does not mean.
  place_.write("base.json", place_.read("config.json"));
  refused({place_.path("base.parquet"), a}, {"base.json' is there and no record of a merge", "base.parquet"});
  EXPECT_EQ(place_.read("base.json"), place_.read("config.json"));
  EXPECT_FALSE(place_.exists("base.parquet"));
  refused({place_.path("nowhere/o.parquet"), a}, {"nowhere/o.parquet", "is no folder"});
  {
    const UnfinishedFile other(out, place_.path(".o.parquet.part.parquet"));
    refused({out, a}, {out + ": another process writes it"});
  }
  EXPECT_EQ(place_.read("o.parquet"), whole);
  EXPECT_EQ(place_.read("o.json"), record);
  // Of two at once each has its own rows, or is refused.
  const std::vector<std::string> command{"data", "merge", out, a, "--text", "{body}", "--overwrite"};
  std::vector<std::string> longer = command;
  longer.insert(longer.begin() + 3, {place_.path("b.jsonl"), place_.path("c.jsonl")});
  const pid_t one = place_.start(place_.command(command, 1)), two = place_.start(place_.command(longer, 1));
  const Outcome first = place_.finish(one), second = place_.finish(two);
  EXPECT_TRUE(first.status == 0 || second.status == 0) << first.err << second.err;
  for (const Outcome& done : {first, second}) EXPECT_TRUE(done.status == 0 || done.status == 2) << done.err;
  const json told = json::parse(place_.read("o.json"));
  const Outcome shown = place_.run({"data", "show", out, "--json"});
  EXPECT_EQ(json::parse(shown.out)["rows"], told["rows"]);
  for (const auto& entry : std::filesystem::directory_iterator(place_.path("")))
    EXPECT_EQ(entry.path().filename().string().find("part"), std::string::npos) << entry.path();
}

// Parsed rows are copied and destroyed by functions that call themselves.
TEST_F(Sources, RowsThatNestWithoutEndAreRefused) {
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  place_.write("beside.jsonl", "{\"text\": \"a\"}\n{\"x\": " + deep + ", \"text\": \"a\"}\n");
  place_.write("itself.jsonl", "{\"text\": " + deep + "}\n");
  for (const auto& [file, line] : {std::pair{"beside.jsonl", ":2"}, {"itself.jsonl", ":1"}})
    for (const std::vector<std::string>& command : {std::vector<std::string>{"show"}, {"check"}, {"merge", place_.path("deep.parquet")}}) {
      std::vector<std::string> whole{"data"};
      whole.insert(whole.end(), command.begin(), command.end());
      whole.push_back(place_.path(file));
      const Outcome done = place_.run(whole);
      EXPECT_EQ(done.status, 2) << done.err;
      EXPECT_SAYS(done.err, file + std::string(line) + " nests objects or lists more than 512 deep");
    }
}

TEST_F(Sources, DataCommandsNameWhatIsNotThere) {
  const Outcome nowhere =
      place_.run({"data", "show", "pubmedqaa"}, {.without = {"COLUMNS"}});  // of the program itself, beside which the catalogue is
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_SAYS(nowhere.err, "pubmedqaa");
  EXPECT_SAYS(nowhere.err, "tinystories");
  EXPECT_SAYS(nowhere.err, "the nearest is pubmedqa");
  const Outcome missing = place_.run({"data", "check", place_.path("nowhere.jsonl")});
  EXPECT_EQ(missing.status, 2);
  EXPECT_SAYS(missing.err, "nowhere.jsonl");
}

}  // namespace
}  // namespace zerostep::testing
