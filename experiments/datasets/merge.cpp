#include "experiments/datasets/merge.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/format.h"
#include "base/noise.h"
#include "base/nth.h"
#include "base/unfinished_file.h"
#include "experiments/datasets/documents.h"
#include "experiments/text/text_table.h"
#include "models/json_file.h"
#include "offload/disk.h"
#include "runtime/data/permutation.h"
#include "runtime/data/table_writer.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Row {
  std::string text;
  uint32_t source;
};

// A file without a name, written once and then read once.
class SpillFile {
 public:
  explicit SpillFile(const std::string& folder) : folder_(folder) {
    std::string name = folder + "/.merge-XXXXXX";
    const int descriptor = ::mkstemp(name.data());
    file_ = descriptor < 0 ? nullptr : ::fdopen(descriptor, "w+b");
    if (file_ == nullptr) fail_run("cannot make a file in '{}': {}", folder, std::strerror(errno));
    ::unlink(name.c_str());
  }
  ~SpillFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  SpillFile(SpillFile&& other) noexcept : folder_(std::move(other.folder_)), file_(std::exchange(other.file_, nullptr)) {}
  SpillFile& operator=(SpillFile&&) = delete;

  void write(const Row& row) {
    const uint64_t head[2] = {row.text.size(), row.source};
    if (std::fwrite(head, sizeof(head), 1, file_) != 1 || std::fwrite(row.text.data(), 1, row.text.size(), file_) != row.text.size())
      fail_run("cannot write to a file in '{}': {}; make space there", folder_, std::strerror(errno));
  }
  std::vector<Row> read() {
    if (std::fflush(file_) != 0) fail_run("cannot write to a file in '{}': {}; make space there", folder_, std::strerror(errno));
    std::rewind(file_);
    std::vector<Row> rows;
    uint64_t head[2];
    while (std::fread(head, sizeof(head), 1, file_) == 1) {
      rows.push_back({std::string(head[0], '\0'), static_cast<uint32_t>(head[1])});
      if (std::fread(rows.back().text.data(), 1, head[0], file_) != head[0])
        fail_run("cannot read a file in '{}' again: {}", folder_, std::strerror(errno));
    }
    return rows;
  }

 private:
  std::string folder_;
  std::FILE* file_;
};

// Rows on their way to a file, in the order in which they are to stand.
class Output {
 public:
  Output(const std::string& path, const std::vector<std::string>& names)
      : names_(names), writer_(write_parquet(path, {"text", "source"}, "data merge")) {}
  void append(const Row& row) {
    const std::string& name = nth(names_, row.source);
    hash_.add(row.text).add(name);
    writer_->append({row.text, name});
  }
  std::string close() {
    writer_->close();
    return hash_.hex();
  }

 private:
  const std::vector<std::string>& names_;
  ContentHash hash_;
  std::unique_ptr<TableWriter> writer_;
};

void append_shuffled(Output& output, const std::vector<Row>& rows, uint64_t seed, int64_t bucket) {
  if (rows.empty()) return;
  const Permutation order(std::ssize(rows), seed, bucket);
  for (int64_t i = 0; i < std::ssize(rows); ++i) output.append(nth(rows, order(i)));
}

// What a file of the two columns holds, as Output hashes it.
std::string fingerprint_of(const std::string& path) {
  DocumentSource source;
  source.key = "data merge";
  source.paths = {path};
  ContentHash hash;
  DocumentReader(source, {"source"}).for_each(1, [&](DocumentBatch& documents) -> DocumentReader::Take {
    while (documents.next()) hash.add(documents.text()).add(documents.field(0).text);
    return [] {};
  });
  return hash.hex();
}

bool is_merge_record(const std::string& path) {
  try {
    const nlohmann::json found = read_json_object(path);
    return found.contains("rows") && found.contains("sources") && found.contains("fingerprint");
  } catch (const InputError&) {  // no file, or no JSON
    return false;
  }
}

// Nothing is lost that the user does not mean to replace.
void check_may_be_written(const MergeRequest& request, const std::string& beside, const std::vector<DocumentReader>& readers) {
  std::error_code ignored;
  for (const std::string& file : {request.out, beside}) {
    if (!fs::exists(fs::symlink_status(file, ignored))) continue;
    if (!request.overwrites) fail_input("data merge: '{}' is there already: name another file, or say --overwrite", file);
    if (fs::exists(file, ignored) && !fs::is_regular_file(file, ignored))
      fail_input("data merge: '{}' is there and no regular file: name another file", file);
    for (const DocumentReader& reader : readers)
      for (const std::string& source : reader.files())
        if (fs::equivalent(file, source, ignored))
          fail_input("data merge: '{}' is one of the sources{}, which it would replace: name another file", file,
                     source == file ? "" : fmt::format(" ('{}')", source));
  }
  if (fs::exists(beside, ignored) && !is_merge_record(beside))
    fail_input("data merge: '{}' is there and no record of a merge, which --overwrite replaces: name another file than '{}'", beside,
               request.out);
}

}  // namespace

Json merge_documents(const MergeRequest& request) {
  const fs::path out = request.out, folder = out.has_parent_path() ? out.parent_path() : fs::path(".");
  const std::string beside = fs::path(out).replace_extension(".json").string();
  if (!fs::is_directory(folder)) fail_input("data merge: '{}': '{}' is no folder", request.out, folder.string());
  std::vector<std::string> names;
  std::vector<DocumentReader> readers;
  int64_t bytes = 0;
  for (const DocumentSource& source : request.sources) {
    names.push_back(name_of(source));
    readers.emplace_back(source);
    bytes += readers.back().num_bytes();
  }
  // Its name begins with a dot, so that globs do not match it; and ends so that it can be read back.
  UnfinishedFile unfinished(request.out, (folder / ("." + out.filename().string() + ".part.parquet")).string());
  check_may_be_written(request, beside, readers);
  // Compressed files hold several times as much text.
  constexpr int64_t kLargestRatio = 4;
  const int64_t num_buckets = request.shuffle ? std::clamp<int64_t>(bytes * kLargestRatio / request.memory, 1, 1000) : 0;
  std::vector<SpillFile> spilled;
  for (int64_t i = 0; num_buckets > 1 && i < num_buckets; ++i) spilled.emplace_back(folder.string());
  std::vector<Row> rows;
  std::vector<int64_t> counts(names.size()), left_out(names.size());
  int64_t num_rows = 0;
  Output output(unfinished.path(), names);
  for (size_t s = 0; s < readers.size(); ++s)
    readers[s].for_each(request.num_threads, [&](DocumentBatch& documents) -> DocumentReader::Take {
      auto batch = std::make_shared<std::vector<Row>>();
      while (documents.next()) batch->push_back({std::string(documents.text()), static_cast<uint32_t>(s)});
      return [&, s, batch, of_batch = documents.num_left_out()] {
        left_out[s] += of_batch;
        for (Row& row : *batch) {
          ++counts[s];
          uint32_t drawn = 0;
          if (num_buckets > 1)
            fill_bits({.seed = *request.shuffle, .tag = NoiseTag::Mixture, .stream = (1U << 24) - 1}, static_cast<uint64_t>(num_rows), 1,
                      &drawn);
          ++num_rows;
          if (num_buckets == 0) {
            output.append(row);
          } else if (num_buckets == 1) {
            rows.push_back(std::move(row));
          } else {
            nth(spilled, uint64_t{drawn} * static_cast<uint64_t>(num_buckets) >> 32).write(row);
          }
        }
      };
    });
  if (num_rows == 0) fail_input("data merge: {}: there is no document", request.sources.front().key);
  if (num_buckets == 1) append_shuffled(output, rows, *request.shuffle, 0);
  for (int64_t i = 0; i < std::ssize(spilled); ++i) append_shuffled(output, nth(spilled, i).read(), *request.shuffle, i);
  const std::string written = output.close();
  if (const std::string read = fingerprint_of(unfinished.path()); read != written)
    fail_run("'{}' reads differently from what was written to it: the disk or its memory is damaged", unfinished.path());
  Json told{{"rows", num_rows}, {"shuffle", request.shuffle ? Json(*request.shuffle) : Json(nullptr)}, {"sources", Json::array()}};
  for (size_t s = 0; s < names.size(); ++s)
    told["sources"].push_back({{"name", names[s]},
                               {"files", readers[s].files()},
                               {"rows", counts[s]},
                               {"left_out", left_out[s]},
                               {"share", static_cast<double>(counts[s]) / static_cast<double>(num_rows)}});
  std::error_code error;
  told["bytes"] = fs::file_size(unfinished.path(), error);
  told["fingerprint"] = written;
  // The file comes last: until then no other process may write either.
  write_durably(Disk::real(), beside, told.dump(1) + "\n");
  unfinished.publish();
  sync_directory(Disk::real(), folder.string());
  return told;
}

std::string merge_text(const Json& told, const std::string& out) {
  TextTable table(1);
  table.add({"source", "rows", "share"});
  for (const Json& source : told["sources"])
    table.add({source["name"].get<std::string>(), grouped(source["rows"].get<int64_t>()),
               fmt::format("{:.2f} %", 100 * source["share"].get<double>())});
  int64_t left_out = 0;
  for (const Json& source : told["sources"]) left_out += source["left_out"].get<int64_t>();
  const std::string without =
      left_out == 0 ? "" : fmt::format("{} row{} left out, without a field\n", grouped(left_out), left_out == 1 ? "" : "s");
  return table.text() + without +
         fmt::format("{} rows in {}{}; read back and the same; shares in {}\n", grouped(told["rows"].get<int64_t>()), out,
                     told["shuffle"].is_null() ? "" : fmt::format(", shuffled by seed {}", told["shuffle"].get<uint64_t>()),
                     fs::path(out).replace_extension(".json").string());
}

}  // namespace zerostep
