#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace zerostep {

// What was fetched to the folder of a data set, in `.fetched.jsonl` there: a line for each file, and one for the data set; later lines
// count before earlier ones, and a line cut short counts for nothing.
class FetchedRecord {
 public:
  struct File {
    std::string checksum;
    int64_t num_bytes = 0, modified_ns = 0;  // as the file system has them; another file is not what was fetched
    int64_t rows = -1;                       // -1: not counted
  };
  // Of the commit that was looked at last.
  struct DataSet {
    std::string commit;
    int64_t num_files = 0;  // all of its files
    bool operator==(const DataSet&) const = default;
  };
  static constexpr const char* kName = ".fetched.jsonl";

  // What is there; nothing where no record is.
  explicit FetchedRecord(const std::string& folder);

  const std::optional<DataSet>& data_set() const { return data_set_; }
  // By the path in the repository.
  const File* find(const std::string& path) const;
  const std::map<std::string, File>& files() const { return files_; }
  // RunError where the record cannot be written; its folder must be there.
  void set(const DataSet& data_set);
  void set(const std::string& path, const File& file);

 private:
  void append(const std::string& line) const;

  std::string path_;
  std::optional<DataSet> data_set_;
  std::map<std::string, File> files_;
};

}  // namespace zerostep
