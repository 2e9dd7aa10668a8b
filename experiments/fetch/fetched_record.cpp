#include "experiments/fetch/fetched_record.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_depth.h"

namespace zerostep {

using nlohmann::json;

FetchedRecord::FetchedRecord(const std::string& folder) : path_(folder + "/" + kName) {
  std::ifstream in(path_);
  for (std::string line; std::getline(in, line);) {
    const json entry = json::parse(unless_too_deep(line), nullptr, false);
    try {
      if (entry.contains("commit"))
        data_set_ = DataSet{entry.at("commit"), entry.at("files")};
      else
        files_[entry.at("path")] = {entry.at("checksum"), entry.at("bytes"), entry.at("modified_ns"), entry.at("rows")};
    } catch (const json::exception&) {  // cut short
    }
  }
}

const FetchedRecord::File* FetchedRecord::find(const std::string& path) const {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : &found->second;
}

void FetchedRecord::set(const DataSet& data_set) {
  data_set_ = data_set;
  append(json{{"commit", data_set.commit}, {"files", data_set.num_files}}.dump());
}

void FetchedRecord::set(const std::string& path, const File& file) {
  files_[path] = file;
  append(
      json{{"path", path}, {"checksum", file.checksum}, {"bytes", file.num_bytes}, {"modified_ns", file.modified_ns}, {"rows", file.rows}}
          .dump());
}

void FetchedRecord::append(const std::string& line) const {
  std::ofstream out(path_, std::ios::app);
  // Before it comes the end of a line that was cut short.
  out << "\n" << line << "\n";
  out.close();
  if (!out) fail_run("cannot write '{}': {}", path_, std::strerror(errno));
}

}  // namespace zerostep
