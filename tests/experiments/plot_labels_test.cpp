#include <gtest/gtest.h>

#include <set>

#include "experiments/plot/short_labels.h"
#include "experiments/plot/text_width.h"

namespace zerostep {
namespace {

using Texts = std::vector<std::string>;
using Kind = ShortLabels::Kind;

constexpr double kSize = 11;

double width_of(size_t letters) { return text_width(std::string(letters, 'n'), kSize); }

void expect_apart(const ShortLabels& labels, double most) {
  EXPECT_EQ(std::set(labels.texts.begin(), labels.texts.end()).size(), labels.texts.size());
  for (const std::string& text : labels.texts) EXPECT_LE(text_width(text, kSize), most) << text;
}

TEST(PlotLabels, WhatAllTextsSayGoesFirst) {
  const Texts names{"optimizer.params.lr=0.001,model.preset=gpt2-20M,mode=fo,seed=1",
                    "optimizer.params.lr=0.001,model.preset=gpt2-20M,mode=fo,seed=2",
                    "optimizer.params.lr=0.0003,model.preset=gpt2-20M,mode=zo,queries=4,seed=1"};
  EXPECT_EQ(short_labels(names, kSize, width_of(80)).texts, names);
  const ShortLabels parts = short_labels(names, kSize, width_of(40));
  EXPECT_EQ(parts.kind, Kind::Parts);
  EXPECT_EQ(parts.texts,
            (Texts{"lr=0.001,\u2026,mode=fo,seed=1", "lr=0.001,\u2026,mode=fo,seed=2", "lr=0.0003,\u2026,mode=zo,queries=4,seed=1"}));
  EXPECT_EQ(short_labels({"a/long/folder/one", "a/long/folder/two"}, kSize, width_of(8)).texts, (Texts{"\u2026/one", "\u2026/two"}));
  // Two keys of one last part stay apart.
  expect_apart(short_labels({"aaaaaaaaaaaaaaaaaaaaaaaa.lr=1", "bbbbbbbbbbbbbbbbbbbbbbbb.lr=1"}, kSize, width_of(20)), width_of(20));
}

TEST(PlotLabels, LabelsAreCutWhereTheyAreAlike) {
  const Texts middles{"aaaaaaaaaaaaaaaaaaaaXbbbbbbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaaaaaaYbbbbbbbbbbbbbbbbbbbb"};
  const ShortLabels cut = short_labels(middles, kSize, width_of(26));
  EXPECT_EQ(cut.kind, Kind::Cut);
  expect_apart(cut, width_of(26));
  const ShortLabels alike = short_labels(middles, kSize, width_of(12));  // no end that is so short holds the letter
  EXPECT_EQ(alike.kind, Kind::Alike);
  Texts grid;
  for (const char* lr : {"0.001", "0.0003"})
    for (const char* queries : {"4", "16", "64"})
      for (const char* seed : {"1", "2"}) grid.push_back(std::string("lr=") + lr + ",queries=" + queries + ",seed=" + seed);
  for (size_t letters : {12, 16, 19, 22, 25}) expect_apart(short_labels(grid, kSize, width_of(letters)), width_of(letters));
  const std::string alone = short_labels({"one text alone that is long"}, kSize, width_of(12)).texts[0];
  EXPECT_TRUE(alone.starts_with("one") && alone.ends_with("long")) << alone;
  EXPECT_TRUE(short_labels({}, kSize, 10).texts.empty());
}

// At every width a value stands whole or not at all, and so do names that their keys tell apart.
TEST(PlotLabels, ValuesAreNeverCut) {
  const Texts equals{"mode=fo,optimizer.params.lr=0.00123,train_batch_size=1024,seed=101",
                     "mode=fo,optimizer.params.lr=0.00125,train_batch_size=1024,seed=101",
                     "mode=zo,optimizer.params.lr=0.00123,train_batch_size=512,queries=128,seed=102"};
  const Texts blanks{"fo, lr 0.00123, train_batch_size 1024", "fo, lr 0.00125, train_batch_size 512 (failed)",
                     "zo, queries 128, lr 0.00123, train_batch_size 1024"};
  const std::set<std::string> values{"fo", "zo", "0.00123", "0.00125", "1024", "512", "512 (failed)", "128", "101", "102", ""};
  for (const Texts& texts : {equals, blanks})
    for (double most = 65; most < 500; most += 3) {
      const ShortLabels labels = short_labels(texts, kSize, most);
      if (labels.kind != Kind::Alike) expect_apart(labels, most);
      for (std::string label : labels.texts) {
        EXPECT_LE(text_width(label, kSize), most) << label;
        for (size_t at = label.find(kEllipsis); at != std::string::npos; at = label.find(kEllipsis)) {
          // It stands for whole parts, or for the end of a key's name.
          const size_t end = at + std::string(kEllipsis).size();
          const bool is_key = end < label.size() && (label[end] == '=' || label[end] == ' ');
          EXPECT_TRUE(is_key || at == 0 || label[at - 1] == ',' || label[at - 1] == ' ') << label;
          label.replace(at, end - at, is_key ? "x" : "");
        }
        for (size_t at = 0; at <= label.size();) {
          const size_t end = std::min(label.find(',', at), label.size());
          std::string part = label.substr(at, end - at);
          part.erase(0, part.find_first_not_of(' ') == part.npos ? part.size() : part.find_first_not_of(' '));
          const size_t sign = part.find_first_of("= ");
          const bool has_key = sign != part.npos && part.compare(sign, 2, " (") != 0;
          EXPECT_TRUE(values.contains(has_key ? part.substr(sign + 1) : part)) << labels.texts[0] << ": " << part;
          at = end + 1;
        }
      }
    }
  EXPECT_EQ(short_labels({"learning_rate=0.01,q=1", "learning_rate=0.02,q=1", "learning_rate=0.02,q=2"}, kSize, width_of(15)).texts,
            (Texts{"learn\u2026=0.01,q=1", "learn\u2026=0.02,q=1", "learn\u2026=0.02,q=2"}));
}

TEST(PlotLabels, TextsAreWrappedBetweenWords) {
  EXPECT_EQ(wrapped("one two three", kSize, width_of(8)), (Texts{"one two", "three"}));
  EXPECT_EQ(wrapped("unbreakable x", kSize, width_of(3)), (Texts{"unbreakable", "x"}));
  EXPECT_TRUE(wrapped("", kSize, 10).empty());
}

}  // namespace
}  // namespace zerostep
