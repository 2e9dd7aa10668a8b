#include "experiments/datasets/merge.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "base/unfinished_file.h"
#include "experiments/datasets/documents.h"
#include "experiments/datasets/shuffled_rows.h"
#include "experiments/text/text_table.h"
#include "models/json_file.h"
#include "offload/disk.h"
#include "runtime/data/table_writer.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Rows on their way to a file, in the order in which they are to stand.
class Output {
 public:
  Output(const MergeRequest& request, const std::string& path, const std::vector<std::string>& names)
      : names_(names), writer_(request.write(path, {"text", "source"}, "data merge")) {}
  void append(const MergedRow& row) {
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

// That a file of ours holds what was written to it.
void read_back(const std::string& path, const std::string& written) {
  std::string reason = "other rows";
  try {
    if (fingerprint_of(path) == written) return;
  } catch (const InputError& error) {  // it is so damaged that it cannot be read
    reason = error.what();
  }
  fail_run("'{}' reads differently from what was written to it: the disk or its memory is damaged; merge anew, to another disk ({})", path,
           reason);
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
    if (fs::is_symlink(file, ignored))
      fail_input("data merge: '{}' is a link, which the file would replace: name the file that it leads to", file);
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
  std::optional<ShuffledRows> shuffled;
  if (request.shuffle) shuffled.emplace(ShuffledRows::Options{folder.string(), *request.shuffle, request.memory, bytes * kLargestRatio});
  std::vector<int64_t> counts(names.size()), left_out(names.size());
  int64_t num_rows = 0;
  Output output(request, unfinished.path(), names);
  for (size_t s = 0; s < readers.size(); ++s) {
    readers[s].for_each(request.num_threads, [&](DocumentBatch& documents) -> DocumentReader::Take {
      auto batch = std::make_shared<std::vector<MergedRow>>();
      while (documents.next()) batch->push_back({std::string(documents.text()), static_cast<uint32_t>(s)});
      return [&, s, batch, of_batch = documents.num_left_out()] {
        left_out[s] += of_batch;
        counts[s] += std::ssize(*batch);
        num_rows += std::ssize(*batch);
        for (MergedRow& row : *batch) shuffled ? shuffled->add(std::move(row)) : output.append(row);
      };
    });
    readers[s].tell_remarks(request.remark);
  }
  if (num_rows == 0) fail_input("data merge: {}: there is no document", request.sources.front().key);
  if (shuffled) shuffled->for_each([&](const MergedRow& row) { output.append(row); });
  const std::string written = output.close();
  read_back(unfinished.path(), written);
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
