#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/beside_program.h"
#include "runtime/config/catalogue.h"
#include "tests/runtime/support/config_file.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using nlohmann::json;

class ConfigSources : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(scratch_.path(name)) << text;
    return scratch_.path(name);
  }
  // A catalogue of two data sets, as "data.catalogue=...".
  std::string catalogue() const {
    return "data.catalogue=" + write("datasets.json", R"({
      // Where they lie.
      "mine": {"files": ["a.jsonl", "more/*.jsonl"], "text": "{body}", "max_documents": 50, "missing": "skip", "size": "small"},
      "yours": {"files": "/nowhere/yours.jsonl", "source": {"hub": "you/yours"}, "fields": {"text": "string"}}})");
  }
  ScratchFolder scratch_;
};

TEST_F(ConfigSources, AreTextsObjectsOrAListOfThem) {
  const std::vector<SourceConfig> one = load_tiny({"data.train={\"files\": \"a.jsonl\", \"text\": \"{q} {a}\"}"}).config.data.train;
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].key, "data.train");
  EXPECT_EQ(one[0].files, std::vector<std::string>{"a.jsonl"});
  EXPECT_EQ(one[0].text, "{q} {a}");
  EXPECT_FALSE(one[0].skips_missing);
  // Texts that follow each other are one source.
  const LoadedConfig loaded = load_tiny(
      {R"(data.train=["a.txt", "b.txt", {"name": "c", "files": ["c.jsonl", "d*.jsonl"], "max_documents": "7", "missing": "error"}, "e.txt"])",
       "data.missing=skip"});
  const std::vector<SourceConfig>& many = loaded.config.data.train;
  ASSERT_EQ(many.size(), 3U);
  EXPECT_EQ(many[0].files, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_TRUE(many[0].skips_missing);
  EXPECT_EQ(many[1].key, "data.train[2]");
  EXPECT_EQ(many[1].name, "c");
  EXPECT_EQ(many[1].files, (std::vector<std::string>{"c.jsonl", "d*.jsonl"}));
  EXPECT_EQ(many[1].max_documents, 7);
  EXPECT_FALSE(many[1].skips_missing);
  EXPECT_EQ(many[2].files, std::vector<std::string>{"e.txt"});
  // The resolved file means the same.
  EXPECT_EQ(resolved(loaded)["data"]["train"][2]["max_documents"], 7);
  EXPECT_EQ(load_text(loaded.resolved_json).resolved_json, loaded.resolved_json);
}

TEST_F(ConfigSources, KeysOfAnObjectAreStrict) {
  expect_words(tiny_refusal({R"(data.train=["a.txt", {"filez": "b.txt"}])"}),
               {"data.train[1].filez is not a known key", "the nearest is files"});
  expect_words(tiny_refusal({R"(data.train=["a.txt", {"text": "{b}"}])"}), {"data.train[1] names no files", "of the catalogue"});
  expect_words(tiny_refusal({R"(data.eval={"near": "a.txt", "far": "b.txt"})"}), {"data.eval.near is not a known key"});
  expect_words(tiny_refusal({R"(data.train={"files": "a.jsonl", "weight": 0})"}), {"data.train.weight is 0; expected a number above 0"});
  expect_words(tiny_refusal({R"(data.eval={"files": "a.jsonl", "weight": 1})"}), {"data.eval.weight is 1", "evaluated once"});
  expect_words(tiny_refusal({R"(data.train={"files": []})"}), {"data.train.files is empty"});
  expect_words(tiny_refusal({"data.train=[3]"}), {"data.train[0] is 3; expected a path, glob or name of the catalogue", "\"./3\""});
  expect_words(tiny_refusal({R"(data.train={"files": "a.txt", "name": "a b"})"}), {"data.train.name is \"a b\"; expected letters"});
  expect_words(tiny_refusal({R"(data.train={"files": "a)"}), {"--set data.train"});
  // A warning where unknown keys are.
  expect_words(warnings_of(load_tiny({R"(data.train={"files": "a.txt", "filez": "b"})", "strict=false"})), {"data.train.filez"});
}

TEST_F(ConfigSources, WeightsAndNamesAreGivenToAllOrNone) {
  const std::vector<SourceConfig> mixed =
      load_tiny({R"(data.train=[{"files": "a.txt", "weight": 3}, {"files": "b.txt", "weight": 1}])"}).config.data.train;
  EXPECT_EQ(mixed.at(0).weight, 3);
  EXPECT_EQ(mixed.at(1).weight, 1);
  expect_words(tiny_refusal({R"(data.train=[{"files": "a.txt", "weight": 1e308}, {"files": "b.txt", "weight": 1e308}])"}),
               {"data.train has weights whose sum is no number", "1.8e+308", "smaller ones"});
  for (const char* tiny : {"1e-320", "4e-13", "5e-13"}) {  // 2^-41 is 4.5e-13
    const auto warnings =
        load_tiny({fmt::format(R"(data.train=[{{"files": "a.txt", "weight": 1}}, {{"files": "b.txt", "weight": {}}}])", tiny)}).warnings;
    const bool says = std::any_of(warnings.begin(), warnings.end(), [](const std::string& text) {
      return text.find("data.train[1].weight is ") != std::string::npos &&
             text.find("one sample in 1,099,511,627,776") != std::string::npos;
    });
    EXPECT_EQ(says, std::string(tiny) != "5e-13") << tiny;
  }
  expect_words(tiny_refusal({R"(data.train=["a.txt", {"files": "b.txt", "weight": 1}])"}),
               {"data.train[0] has no weight, and other sources have"});
  expect_words(tiny_refusal({R"(data.train=[{"name": "x", "files": "a.txt"}, {"name": "x", "files": "b.txt"}])"}),
               {"data.train[1] is called \"x\" as data.train[0] is"});
  expect_words(tiny_refusal({R"(data.eval=["a.txt", {"name": "x", "files": "b.txt"}])"}), {"data.eval[0] has no name"});
  EXPECT_EQ(load_tiny({R"(data.eval=["a.txt", {"files": "b.txt"}])"}).config.data.eval.size(), 2U);
}

TEST_F(ConfigSources, NamesOfACatalogueAreSources) {
  const std::string set = catalogue();
  const std::vector<SourceConfig> named = load_tiny({set, "data.train=mine"}).config.data.train;
  ASSERT_EQ(named.size(), 1U);
  EXPECT_EQ(named[0].name, "mine");
  EXPECT_EQ(named[0].files, (std::vector<std::string>{scratch_.path("a.jsonl"), scratch_.path("more/*.jsonl")}));
  EXPECT_EQ(named[0].text, "{body}");
  EXPECT_EQ(named[0].max_documents, 50);
  EXPECT_TRUE(named[0].skips_missing);
  // Further keys are laid over those of the catalogue.
  const std::vector<SourceConfig> more =
      load_tiny({set, R"(data.train=[{"name": "mine", "max_documents": 30, "missing": "error"}, "yours", "c.txt"])"}).config.data.train;
  ASSERT_EQ(more.size(), 3U);
  EXPECT_EQ(more[0].max_documents, 30);
  EXPECT_FALSE(more[0].skips_missing);
  EXPECT_EQ(more[0].text, "{body}");
  EXPECT_EQ(more[1].files, std::vector<std::string>{"/nowhere/yours.jsonl"});
  EXPECT_EQ(more[2].name, "");
  // With files beside it a name is a name.
  EXPECT_EQ(load_tiny({set, R"(data.train={"name": "mine", "files": "b.jsonl"})"}).config.data.train[0].text, "");
  expect_words(tiny_refusal({set, "data.train=mnie"}), {"data.train is \"mnie\"", "mine, yours", "the nearest is mine"});
  expect_words(tiny_refusal({set, R"(data.train={"name": "mnie", "weight": 1})"}), {"data.train.name is \"mnie\"", "mine, yours"});
  EXPECT_EQ(resolved(load_tiny({set, "data.train=mine"}))["data"]["train"], json::parse("[\"mine\"]"));
}

TEST_F(ConfigSources, ACatalogueOfAnotherKindIsRefused) {
  const auto refused = [&](const std::string& text) {
    return tiny_refusal({"data.catalogue=" + write("datasets.json", text), "data.train=mine"});
  };
  expect_words(refused(R"({"mine": {"filez": "a.txt"}})"), {"mine.filez is not a known key", "the nearest is files"});
  expect_words(refused(R"({"mine": "a.txt"})"), {"mine is \"a.txt\"; expected an object with files"});
  expect_words(refused(R"({"mine": {"text": "{a}"}})"), {"mine names no files"});
  expect_words(refused(R"({"mine": {"files": "a.txt", "missing": 1}})"), {"mine.missing is 1; expected \"error\" or \"skip\""});
  expect_words(refused("["), {"datasets.json"});
  expect_words(tiny_refusal({"data.catalogue=/nowhere/datasets.json"}), {"/nowhere/datasets.json"});
}

// The thirteen data sets of the experiments.
TEST_F(ConfigSources, TheProgramHasACatalogueOfItsOwn) {
  const char* sources = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(sources, nullptr);
  const auto own = schema::Catalogue::read(std::string(sources) + "/configs/datasets.json");
  ASSERT_EQ(own.entries().size(), 13U);
  for (const schema::Catalogue::Entry& entry : own.entries()) {
    EXPECT_FALSE(entry.description.empty() || entry.size.empty() || entry.origin.is_null() || entry.fields.empty()) << entry.name;
    EXPECT_TRUE(entry.source.contains("text")) << entry.name;
    for (const json& file : entry.source["files"]) EXPECT_TRUE(file.get<std::string>().starts_with(sources)) << file;
  }
  ASSERT_NE(own.find("pubmedqa"), nullptr);
  EXPECT_EQ(own.find("pubmedqa")->source["text"], "{question} {long_answer}[[ Answer: {final_decision}]]");
  expect_words(own.names_beside("pubmedqaa"), {"tinystories", "the nearest is pubmedqa"});
}

TEST_F(ConfigSources, EvaluationByEpochNeedsAnEvaluationSet) {
  const LoadedConfig loaded = load_tiny({"data.eval=b.txt", "run.eval_interval=epoch"});
  EXPECT_TRUE(loaded.config.run.evaluates_epochs);
  EXPECT_EQ(loaded.config.run.eval_interval, 0);
  EXPECT_EQ(resolved(loaded)["run"]["eval_interval"], "epoch");
  EXPECT_EQ(load_text(loaded.resolved_json).resolved_json, loaded.resolved_json);
  EXPECT_NO_THROW(load_tiny({"data.eval=b.txt", "run.eval_interval=epoch", "run.keep_best=true"}));
  expect_words(tiny_refusal({"run.eval_interval=epoch"}), {"run.eval_interval is \"epoch\", but data.eval names nothing"});
  expect_words(tiny_refusal({"data.eval=b.txt", "run.eval_interval=epochs"}), {"run.eval_interval is \"epochs\"", "or \"epoch\""});
}

TEST_F(ConfigSources, BackpropsShareIsOfASplit) {
  const LoadedConfig split = load_tiny({"zero_optimization=null", "step.mode=calibrate", "step.bp_data=split", "step.bp_share=0.1"});
  EXPECT_EQ(split.config.step.bp_share, 0.1);
  EXPECT_EQ(warnings_of(split), "");
  expect_words(warnings_of(load_tiny({"step.mode=calibrate", "step.bp_share=0.1"})),
               {"step.bp_share has no effect unless step.bp_data is split"});
  expect_words(tiny_refusal({"step.mode=calibrate", "step.bp_data=split", "step.bp_share=1"}), {"step.bp_share is 1"});
}

}  // namespace
}  // namespace zerostep
