#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep::schema {

// A file of sources by name (data.catalogue, datasets.json): {"NAME": {"files", "text", "split", "missing", "max_documents", and for people
// "description", "size", "fields", "source"}}. Relative files lie below the file's own folder, those of the program's own catalogue below
// user_cache_folder() where there is one. `source` is also what fetching goes by (experiments/fetch/).
class Catalogue {
 public:
  // The program's own: datasets.json beside it, in ../configs or in ../share/zerostep. "": there is none.
  static std::string own_file();
  // `path` "": the program's own. InputError: there is none, or it is another kind of file. Comments are allowed.
  static Catalogue read(const std::string& path);

  struct Entry {
    std::string name;
    nlohmann::json source;  // the keys of a source, files with whole paths
    std::string description, size;
    nlohmann::json fields, origin;  // of its rows, name -> type; where it comes from
  };
  const std::string& file() const { return file_; }
  const std::string& folder() const { return folder_; }           // of relative files
  const std::vector<Entry>& entries() const { return entries_; }  // in the order of their names
  const Entry* find(std::string_view name) const;
  // "`zerostep data fetch NAME` brings it here", or what the catalogue says of where it comes from, for messages; "": nothing.
  std::string how_to_get(const Entry& entry) const;
  // For a message about a name that it has not: "a name of the catalogue FILE: that has a, b, c; the nearest is b".
  std::string names_beside(std::string_view name) const;

 private:
  std::string file_, folder_;
  std::vector<Entry> entries_;
};

}  // namespace zerostep::schema
