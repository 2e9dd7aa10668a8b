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
  expect_apart(short_labels(grid, kSize, width_of(22)), width_of(22));
  const std::string alone = short_labels({"one text alone that is long"}, kSize, width_of(12)).texts[0];
  EXPECT_TRUE(alone.starts_with("one") && alone.ends_with("long")) << alone;
  EXPECT_TRUE(short_labels({}, kSize, 10).texts.empty());
}

TEST(PlotLabels, TextsAreWrappedBetweenWords) {
  EXPECT_EQ(wrapped("one two three", kSize, width_of(8)), (Texts{"one two", "three"}));
  EXPECT_EQ(wrapped("unbreakable x", kSize, width_of(3)), (Texts{"unbreakable", "x"}));
  EXPECT_TRUE(wrapped("", kSize, 10).empty());
}

}  // namespace
}  // namespace zerostep
