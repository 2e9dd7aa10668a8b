#include "runtime/checkpoint/data_changes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

// The configurations' data blocks, of now and of the checkpoint.
Strings changes(const char* here, const char* before, const std::string& list = "data.train") {
  return data_changes({{"data", Json::parse(here)}}, {{"data", Json::parse(before)}}, list);
}

TEST(DataChanges, WhatDiffersIsNamedByItsPath) {
  EXPECT_EQ(changes(R"({"train": [{"files": ["a.txt"], "weight": 1.0}, {"files": ["b.txt"], "weight": 0.5}]})",
                    R"({"train": [{"files": ["a.txt"], "weight": 3.0}, {"files": ["c.txt"], "weight": 0.5}]})"),
            (Strings{"data.train[0].weight is 1 here and 3 in the checkpoint",
                     "data.train[1].files[0] is \"b.txt\" here and \"c.txt\" in the checkpoint"}));
  EXPECT_EQ(
      changes(R"({"train": [{"files": ["a"], "text": "{a}"}], "max_samples": 0, "missing": "error", "cache": "x"})",
              R"({"train": [{"files": ["a"], "split": "x", "max_documents": 5}], "max_samples": 9, "missing": "error", "cache": "y"})"),
      (Strings{"data.train[0].text is \"{a}\" here and missing in the checkpoint", "data.max_samples is 0 here and 9 in the checkpoint",
               "data.train[0].split is missing here and \"x\" in the checkpoint",
               "data.train[0].max_documents is missing here and 5 in the checkpoint"}));
  EXPECT_EQ(changes(R"({"train": "a", "bp_train": ["b"]})", R"({"train": "a", "bp_train": ["c"]})"), Strings());
  EXPECT_EQ(changes(R"({"train": "a", "bp_train": ["b"]})", R"({"train": "z", "bp_train": ["c"]})", "data.bp_train"),
            (Strings{"data.bp_train[0] is \"b\" here and \"c\" in the checkpoint"}));
}

TEST(DataChanges, TheWayInWhichASourceIsWrittenIsNoChange) {
  EXPECT_EQ(changes(R"({"train": "a.txt"})", R"({"train": ["a.txt"]})"), Strings());
  EXPECT_EQ(changes(R"({"train": ["a.txt"]})", R"({"train": [{"files": "a.txt"}]})"), Strings());
  EXPECT_EQ(changes(R"({"train": "a.txt"})", R"({"train": "b.txt"})"),
            (Strings{"data.train is \"a.txt\" here and \"b.txt\" in the checkpoint"}));
  EXPECT_EQ(changes(R"({"train": "a.txt"})", R"({"train": [{"files": ["a.txt"], "max_documents": 3}]})"),
            (Strings{"data.train[0].max_documents is missing here and 3 in the checkpoint"}));
  EXPECT_EQ(changes("{}", R"({"train": ["a.txt"]})"), (Strings{"data.train[0] is missing here and \"a.txt\" in the checkpoint"}));
}

}  // namespace
}  // namespace zerostep
