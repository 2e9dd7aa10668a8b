#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "base/error.h"
#include "experiments/datasets/check.h"
#include "experiments/datasets/duplicates.h"
#include "experiments/datasets/homogeneity.h"
#include "experiments/datasets/length_sample.h"
#include "experiments/datasets/merge.h"
#include "experiments/datasets/row_blocks.h"
#include "experiments/datasets/show.h"
#include "experiments/datasets/text_windows.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;

TEST(Homogeneity, TailsOfChiSquareAreThoseOfTheTables) {
  // With two degrees of freedom the tail is exp(-x / 2); with one it is erfc(sqrt(x / 2)).
  for (const double x : {0.01, 0.5, 1.0, 3.0, 10.0, 50.0, 300.0, 1200.0}) {
    EXPECT_NEAR(chi_square_tail(x, 2) / std::exp(-x / 2), 1, 1e-12) << x;
    EXPECT_NEAR(chi_square_tail(x, 1) / std::erfc(std::sqrt(x / 2)), 1, 1e-11) << x;
  }
  // Quantiles of 95 % and 99.9 %, to the digits of the tables.
  EXPECT_NEAR(chi_square_tail(18.307, 10), 0.05, 1e-5);
  EXPECT_NEAR(chi_square_tail(59.703, 30), 0.001, 1e-6);
  EXPECT_EQ(chi_square_tail(0, 7), 1);
}

TEST(Homogeneity, ChiSquareOfATable) {
  // 2 x 2: n (ad - bc)^2 / (the products of the sums).
  const auto test = chi_square({{20, 30}, {30, 20}});
  ASSERT_TRUE(test);
  EXPECT_DOUBLE_EQ(test->statistic, 100.0 * (400 - 900) * (400 - 900) / (50.0 * 50 * 50 * 50));
  EXPECT_EQ(test->degrees, 1);
  EXPECT_NEAR(test->p, std::erfc(std::sqrt(2.0)), 1e-12);
  // What has no counts is no part and no kind.
  EXPECT_EQ(chi_square({{20, 0, 30}, {30, 0, 20}, {0, 0, 0}})->degrees, 1);
  EXPECT_FALSE(chi_square({{20, 0}, {30, 0}}));
  EXPECT_LT(chi_square({{50, 0}, {0, 50}})->p, 1e-20);
}

// Of many even mixtures one in a hundred has a chance below a hundredth: 2,000 of them 20, with a deviation of 4.5.
TEST(Homogeneity, AnEvenMixtureIsRarelyUneven) {
  std::mt19937 random(5);
  std::bernoulli_distribution is_first(0.3);
  int below = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<std::vector<int64_t>> counts(8, std::vector<int64_t>(2));
    for (auto& part : counts)
      for (int row = 0; row < 60; ++row) ++part[is_first(random) ? 0 : 1];
    below += chi_square(counts)->p < 0.01;
  }
  EXPECT_NEAR(below, 20, 5 * 4.5);
}

TEST(Homogeneity, DivergenceIsFromNothingToOneBit) {
  EXPECT_EQ(divergence_in_bits({1, 2, 3}, {10, 20, 30}), 0);
  EXPECT_DOUBLE_EQ(divergence_in_bits({5, 0}, {0, 9}), 1);
  EXPECT_EQ(divergence_in_bits({0, 0}, {1, 2}), 0);
  // Of (1, 0) and (1/2, 1/2): the middle is (3/4, 1/4).
  EXPECT_NEAR(divergence_in_bits({4, 0}, {3, 3}), (std::log2(4.0 / 3) + 0.5 * std::log2(2.0 / 3) + 0.5 * std::log2(2.0)) / 2, 1e-15);
}

TEST(TextWindows, FindWhatStandsInBoth) {
  std::mt19937 random(1);
  const auto text = [&](size_t size) {
    std::string out;
    for (size_t i = 0; i < size; ++i) out += static_cast<char>('a' + random() % 26);
    return out;
  };
  TextWindows windows;
  const std::string evaluated = text(1000), brief = text(70), scrap = text(31);
  for (const std::string& kept : {evaluated, brief, scrap}) windows.add(kept);
  EXPECT_EQ(windows.count_in(text(100000)), 0);
  // Seven windows of 128 at every 128 bytes, and one at the end.
  EXPECT_EQ(windows.count_in(text(50) + evaluated + text(50)), 8);
  // Whatever the place, a stretch of twice a window less one holds one.
  for (size_t at = 0; at + 255 <= evaluated.size(); at += 7)
    EXPECT_GE(windows.count_in(text(13) + evaluated.substr(at, 255) + text(5)), 1) << at;
  EXPECT_EQ(windows.count_in(evaluated.substr(1, 127)), 0);
  EXPECT_EQ(windows.count_in(text(10) + brief + text(10)), 2) << "its first 64 bytes and its last";
  EXPECT_EQ(windows.count_in(scrap), 0);
}

TEST(RowBlocks, KeepTheCountsOfPartsWhenBlocksAreJoined) {
  RowBlocks blocks;
  constexpr int64_t kRows = 5000;  // more than the most blocks, twice over and again
  for (int64_t row = 0; row < kRows; ++row) blocks.add_row(std::vector<uint16_t>{static_cast<uint16_t>(row / 1250), 4095});
  EXPECT_EQ(blocks.num_rows(), kRows);
  const auto parts = blocks.parts(4);
  for (size_t part = 0; part < 4; ++part) {
    // A block of eight rows may lie across the end of a part.
    EXPECT_NEAR(parts[part][part], 1250, 8);
    EXPECT_NEAR(parts[part][4095], 1250, 8);
  }
  const auto shuffled = blocks.shuffled_parts(4, 1);
  EXPECT_LT(shuffled[0][0], 600U);
  uint32_t all = 0;
  for (const auto& part : shuffled) all += part[4095];
  EXPECT_EQ(all, kRows);
}

TEST(DuplicateCounter, IsExactAtFirstAndThenAnEstimate) {
  std::mt19937_64 random(2);
  DuplicateCounter few;
  std::set<uint64_t> seen;
  int64_t expected = 0;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t hash = (random() % 15000) * 0x9E3779B97F4A7C15ULL;
    expected += !seen.insert(hash).second;
    few.add(hash);
  }
  EXPECT_TRUE(few.is_exact());
  EXPECT_EQ(few.duplicates(), expected);
  // Every text twice, and three times as many as are kept: a quarter is looked at, whose number has a deviation of a thousandth.
  DuplicateCounter many;
  const auto count = static_cast<int64_t>(3 * DuplicateCounter::kMost);
  for (int pass = 0; pass < 2; ++pass) {
    std::mt19937_64 same(7);
    for (int64_t i = 0; i < count; ++i) many.add(same());
  }
  EXPECT_FALSE(many.is_exact());
  EXPECT_NEAR(static_cast<double>(many.duplicates()) / static_cast<double>(count), 1, 0.01);
}

TEST(LengthSample, QuantilesOfMany) {
  LengthSample lengths;
  EXPECT_TRUE(lengths.json().empty());
  const auto count = static_cast<int64_t>(3 * LengthSample::kMost);
  for (int64_t i = 0; i < count; ++i) lengths.add(i % 1000);
  const Json said = lengths.json();
  EXPECT_EQ(said["min"], 0);
  EXPECT_EQ(said["max"], 999);
  EXPECT_NEAR(said["mean"].get<double>(), 499.5, 0.5);
  for (const auto& [name, expected] : {std::pair("p5", 50), {"p25", 250}, {"median", 500}, {"p95", 950}, {"p99", 990}})
    EXPECT_NEAR(said[name].get<double>(), expected, 4) << name;
}

TEST(MergeText, NamesAndNumbersStandApartWhateverTheirLength) {
  const Json told{{"rows", 200200},
                  {"shuffle", 7},
                  {"sources",
                   {{{"name", "big_groups.parquet"}, {"rows", 200000}, {"left_out", 1200}, {"share", 200000.0 / 200200}},
                    {{"name", "few"}, {"rows", 200}, {"left_out", 0}, {"share", 200.0 / 200200}}}}};
  EXPECT_EQ(merge_text(told, "d/both.parquet"),
            "source                 rows    share\n"
            "big_groups.parquet  200,000  99.90 %\n"
            "few                     200   0.10 %\n"
            "1,200 rows left out, without a field\n"
            "200,200 rows in d/both.parquet, shuffled by seed 7; read back and the same; shares in d/both.json\n");
}

class DataSets : public ::testing::Test {
 protected:
  DocumentSource source(const std::string& name, const std::string& text, const std::string& of_row = "") const {
    std::ofstream(scratch_.path(name), std::ios::binary) << text;
    DocumentSource out;
    out.key = name;
    out.paths = {scratch_.path(name)};
    out.text = of_row;
    return out;
  }
  // Rows of random words, each with further fields.
  std::string rows(int first, int count, const std::string& more = "") const {
    std::string out;
    for (int i = first; i < first + count; ++i) {
      std::mt19937 random(static_cast<unsigned>(i));
      std::string text;
      for (int w = 0; w < 60; ++w) text += fmt::format("w{} ", random() % 500);
      out += fmt::format("{{\"text\": \"{}\"{}}}\n", text, more);
    }
    return out;
  }
  ScratchFolder scratch_;
};

TEST_F(DataSets, ShowCountsAndTellsTypes) {
  ShowRequest request;
  request.sources = {
      source("a.jsonl",
             "{\"text\": \"one\", \"n\": 1, \"about\": {\"x\": 2}}\n{\"text\": \"\", \"n\": 2.5}\n{\"text\": \"n\u00e4ive\", \"n\": null}\n"
             "{\"text\": \" \\n\", \"n\": 4}\n{\"text\": \"one\", \"n\": 5}\n{\"text\": \"one\", \"n\": 6}\n")};
  request.rows = 2;
  const auto tokenizer = make_byte_tokenizer();
  request.tokenizer = tokenizer.get();
  request.tokenizer_name = "byte";
  request.num_threads = 2;
  const Json shown = show_documents(request);
  EXPECT_EQ(shown["rows"], 6);
  EXPECT_EQ(shown["empty_rows"], 2);
  EXPECT_EQ(shown["duplicate_rows"], 2);
  EXPECT_EQ(shown["text"], "text");
  EXPECT_EQ(shown["fields"][0], (Json{{"name", "text"}, {"type", "string"}}));
  EXPECT_EQ(shown["fields"][1], (Json{{"name", "n"}, {"type", "integer or number or null"}}));
  EXPECT_EQ(shown["fields"][2], (Json{{"name", "about.x"}, {"type", "integer"}})) << "by the path that text_field takes";
  EXPECT_EQ(shown["characters"]["total"], 3 * 3 + 0 + 5 + 2);
  EXPECT_EQ(shown["characters"]["max"], 5);
  EXPECT_EQ(shown["tokens"]["max"], 6) << "bytes";
  ASSERT_EQ(shown["first"].size(), 2U);
  EXPECT_EQ(shown["first"][0], (Json{{"text", "one"}, {"n", 1}, {"about.x", 2}}));
  const std::string text = show_text(shown);
  for (const char* said :
       {"rows           6", "empty          2", "duplicates     2", "field          n  integer or number or null", "row 2"})
    EXPECT_NE(text.find(said), std::string::npos) << said << " is not in\n" << text;
  // Without a field of the usual name the first one of texts is taken.
  request.sources = {source("b.jsonl", "{\"id\": 3, \"sentence\": \"a\"}\n")};
  EXPECT_EQ(show_documents(request)["text"], "sentence");
  request.sources = {source("c.txt", "a whole file")};
  EXPECT_EQ(show_documents(request)["first"][0]["text"], "a whole file");
  request.sources = {source("d.bin", "abcdef")};
  EXPECT_THROW(show_documents(request), InputError);
}

TEST_F(DataSets, ShowCountsRowsWithoutATextAndGoesOn) {
  ShowRequest request;
  request.sources = {source("a.jsonl",
                            "{\"text\": [1, 2]}\n{\"text\": \"one\"}\n\n{\"text\": null, \"n\": 1}\n{\"m\": {}, \"n\": true}\n"
                            "{\"text\": 7}\n{\"text\": \"one\", \"n\": \"x\"}\n")};
  const std::string file = request.sources[0].paths[0];
  const Json shown = show_documents(request);
  EXPECT_EQ(shown["rows"], 6);
  EXPECT_EQ(shown["missing"], (Json{{"rows", 2}, {"first", file + ":4"}, {"why", "field 'text' is null"}}));
  EXPECT_EQ(shown["other_type"], (Json{{"rows", 2}, {"first", file + ":1"}, {"why", "field 'text' is array"}}));
  EXPECT_EQ(shown["empty_rows"], 0);
  EXPECT_EQ(shown["duplicate_rows"], 1);
  EXPECT_EQ(shown["characters"]["total"], 6);
  EXPECT_EQ(shown["blank_lines"], 1);
  EXPECT_EQ(shown["fields"], (Json{{{"name", "text"}, {"type", "list or string or null or integer"}},
                                   {{"name", "n"}, {"type", "integer or boolean or string"}},
                                   {{"name", "m"}, {"type", "object"}}}));
  EXPECT_EQ(shown["first"][0]["text"], "[1,2]");
  const std::string text = show_text(shown);
  for (const std::string& said :
       {std::string("rows           6 beside 1 blank line\n"), "missing        2, the first at " + file + ":4: field 'text' is null\n",
        "other type     2, the first at " + file + ":1: field 'text' is array\n"})
    EXPECT_NE(text.find(said), std::string::npos) << said << " is not in\n" << text;
  // A template makes a text of numbers, and its optional parts may be missing.
  request.sources[0].text = "{text}[[ {n}]]";
  const Json made = show_documents(request);
  EXPECT_EQ(made["other_type"]["rows"], 1);
  EXPECT_EQ(made["missing"]["rows"], 2);
  EXPECT_EQ(made["characters"]["total"], 3 + 1 + 5);
  // A field that was asked for is not replaced by another.
  request.sources[0] = source("b.jsonl", "{\"about\": {\"x\": \"in\"}, \"z\": \"no\"}\n");
  request.sources[0].text_field = "about.x";
  EXPECT_EQ(show_documents(request)["characters"]["total"], 2);
  request.sources[0].text_field = "nowhere";
  const Json none = show_documents(request);
  EXPECT_EQ(none["missing"]["why"], "field 'nowhere' is missing");
  EXPECT_EQ(show_text(none).find("length of"), std::string::npos) << show_text(none);
  // What is damaged ends it, wherever it stands.
  request.sources = {source("c.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n{\"text\"\n")};
  EXPECT_THROW(show_documents(request), InputError);
}

// Types of the rows behind the first megabyte count too.
TEST_F(DataSets, ShowKnowsTheTypesOfAllRows) {
  std::string rows;
  for (int i = 0; i < 40; ++i) rows += "{\"text\": \"" + std::string(50000, 'a') + "\", \"n\": 1}\n";
  ShowRequest request;
  request.sources = {source("a.jsonl", rows + "{\"text\": \"b\", \"n\": 2.5, \"late\": \"x\"}\n")};
  const Json shown = show_documents(request);
  EXPECT_EQ(shown["fields"][1], (Json{{"name", "n"}, {"type", "integer or number"}}));
  EXPECT_EQ(shown["fields"][2], (Json{{"name", "late"}, {"type", "string"}}));
}

TEST_F(DataSets, CheckTellsAMixtureFromARow) {
  CheckRequest request;
  request.parts = 8;
  request.num_threads = 2;
  request.sources = {source("a.jsonl", rows(0, 200)), source("b.jsonl", rows(1000, 100))};
  Json checked = check_documents(request);
  EXPECT_EQ(checked["rows"], 300);
  EXPECT_LT(checked["chi_square"]["p"].get<double>(), 1e-9);
  EXPECT_EQ(checked["chi_square"]["degrees"], 7);
  EXPECT_NEAR(checked["sources"][0]["share"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_EQ(checked["sources"][1]["share_of_parts"][0], 0);
  EXPECT_EQ(checked["sources"][1]["share_of_parts"][7], 1);
  EXPECT_FALSE(checked.contains("overlap"));
  // The same kind of rows, told apart by their field "source", in turn.
  std::string mixed;
  for (int i = 0; i < 300; ++i) mixed += rows(i, 1, i % 3 == 0 ? ", \"source\": \"x\"" : ", \"source\": \"y\"");
  request.sources = {source("mixed.jsonl", mixed)};
  checked = check_documents(request);
  EXPECT_GT(checked["chi_square"]["p"].get<double>(), 0.9);
  EXPECT_EQ(checked["sources"].size(), 2U);
  EXPECT_LT(checked["divergence"]["mean"].get<double>(), 2 * checked["divergence"]["mean_if_shuffled"].get<double>());
  // One source: no shares; its words may still change from part to part.
  std::string other;
  for (int i = 0; i < 150; ++i) other += "{\"text\": \"zz" + std::to_string(i % 7) + " yy xx\"}\n";
  request.sources = {source("changed.jsonl", rows(0, 150) + other)};
  checked = check_documents(request);
  EXPECT_TRUE(checked["chi_square"].is_null());
  EXPECT_GT(checked["divergence"]["mean"].get<double>(), 3 * checked["divergence"]["mean_if_shuffled"].get<double>());
  EXPECT_NE(check_text(checked).find("There is one source"), std::string::npos);
}

// Parts of one row each would have the same statistic in every order.
TEST_F(DataSets, CheckComparesPartsWithRowsEnough) {
  CheckRequest request;
  const auto check = [&](std::vector<DocumentSource> sources, int64_t parts) {
    request.sources = std::move(sources);
    request.parts = parts;
    return check_documents(request);
  };
  // 2 parts of 10 rows: each of four cells is 5 from the 5 that are expected, 4 * 25 / 5; the tail of one degree at 20 is erfc(sqrt(10)).
  Json checked = check({source("a.jsonl", rows(0, 10)), source("b.jsonl", rows(100, 10))}, 20);
  EXPECT_EQ(checked["parts"], 20);
  EXPECT_EQ(checked["chi_square"]["parts"], 2);
  EXPECT_DOUBLE_EQ(checked["chi_square"]["statistic"].get<double>(), 20);
  EXPECT_NEAR(checked["chi_square"]["p"].get<double>() / std::erfc(std::sqrt(10.0)), 1, 1e-9);
  EXPECT_EQ(check_text(checked).find("as of an even mixture"), std::string::npos) << check_text(checked);
  EXPECT_NE(check_text(checked).find("in 2 parts, in which 5 rows of each source"), std::string::npos) << check_text(checked);
  checked = check({source("a.jsonl", rows(0, 500)), source("b.jsonl", rows(1000, 500))}, 1000);
  EXPECT_EQ(checked["chi_square"]["parts"], 100);
  EXPECT_LT(checked["chi_square"]["p"].get<double>(), 1e-9);
  // 9 rows are too few for two parts: without a second source nothing is told, and beside two others they are not compared.
  checked = check({source("a.jsonl", rows(0, 100)), source("c.jsonl", rows(200, 9))}, 4);
  EXPECT_TRUE(checked["chi_square"].is_null());
  EXPECT_NE(check_text(checked).find("too few rows to tell"), std::string::npos);
  checked = check({source("a.jsonl", rows(0, 100)), source("b.jsonl", rows(1000, 100)), source("c.jsonl", rows(200, 9))}, 4);
  EXPECT_EQ(checked["chi_square"]["sources"], 2);
  EXPECT_EQ(checked["chi_square"]["degrees"], 3);
  EXPECT_NE(check_text(checked).find("1 source has fewer than 10 rows"), std::string::npos) << check_text(checked);
}

TEST_F(DataSets, CheckFindsEvaluationTexts) {
  CheckRequest request;
  request.parts = 4;
  request.sources = {source("train.jsonl", rows(0, 100))};
  request.against = {source("apart.jsonl", rows(5000, 20))};
  EXPECT_EQ(check_documents(request)["overlap"]["overlapping_documents"], 0);
  request.against = {source("among.jsonl", rows(5000, 20) + rows(40, 3))};
  const Json checked = check_documents(request);
  EXPECT_EQ(checked["overlap"]["overlapping_documents"], 3);
  EXPECT_GT(checked["overlap"]["overlapping_windows"].get<int64_t>(), 3);
  EXPECT_NE(check_text(checked).find("overlap: 3 of the documents"), std::string::npos);
  EXPECT_EQ(checked["overlap"]["texts"], 23);
  EXPECT_EQ(checked["overlap"]["too_short_texts"], 0);
  EXPECT_EQ(check_text(checked).find("too short"), std::string::npos);
  // 31 bytes, in characters fewer, and nothing at all.
  const std::string brief = "{\"text\": \"" + std::string(29, 'x') + "\u00e9\"}\n{\"text\": \"\"}\n";
  request.against = {source("brief.jsonl", rows(40, 3) + brief)};
  const Json some = check_documents(request);
  EXPECT_EQ(some["overlap"]["texts"], 5);
  EXPECT_EQ(some["overlap"]["too_short_texts"], 2);
  EXPECT_NE(check_text(some).find("\n2 of 5 evaluation texts are too short to look for, below 32 bytes\n"), std::string::npos);
  request.against = {source("all_brief.jsonl", brief)};
  EXPECT_NE(check_text(check_documents(request)).find("none of the 2 evaluation texts has 32 bytes"), std::string::npos);
}

}  // namespace
}  // namespace zerostep
