#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/document_source.h"
#include "runtime/data/table_writer.h"

namespace zerostep {

struct MergeRequest {
  std::string out;          // a .parquet file, and NAME.json beside it
  bool overwrites = false;  // files of these names are replaced
  std::vector<DocumentSource> sources;
  std::optional<uint64_t> shuffle;  // the seed of the order; nothing: source after source
  int num_threads = 1;
  std::function<void(const std::string&)> remark = nullptr;  // takes what is to be said of the texts, a sentence a call
  int64_t memory = int64_t{256} << 20;                       // bytes of rows, about, that are in memory at once to be shuffled
  // What makes the file.
  std::function<std::unique_ptr<TableWriter>(const std::string& path, const std::vector<std::string>& columns, const std::string& key)>
      write = write_parquet;
};

// Writes the documents of all sources into one file of the columns "text" and "source" (the name of each row's), each once. Shuffled they
// are in a uniformly random order that follows from the seed and the sources alone: more than fits the memory is first dealt out at random
// to files beside `out` that have no name. Then the file is read back and compared with what was written, and only then has its name.
// Gives, and writes to NAME.json, {"rows", "shuffle", "sources" [{"name", "files", "rows", "left_out", "share"}], "bytes", "fingerprint" of
// the rows in order}. InputError as DocumentReader's; where `out` is no file that may be written: it is there and not to be replaced, a
// source, or being written by another process, or what NAME.json holds is no record of a merge. RunError: a full disk, a file that reads
// differently from what was written.
nlohmann::ordered_json merge_documents(const MergeRequest& request);
// The same for people; `out`: the request's.
std::string merge_text(const nlohmann::ordered_json& told, const std::string& out);

}  // namespace zerostep
