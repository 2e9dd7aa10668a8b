#pragma once
#include <optional>
#include <string>
#include <vector>

#include "experiments/fetch/hub.h"
#include "runtime/config/catalogue.h"

namespace zerostep {

// In the folder of a data set, held by whoever fetches it.
constexpr const char* kFetchLock = ".fetch.lock";

// Where a data set of a catalogue lies on a hub, and where its files come to lie here: of {"files": "data/a/*.parquet", "source": {"hub":
// "OWNER/NAME", "files": "*.parquet", "revision": "main"}} each file of the repository that matches, below data/a. `files` ends as
// `source.files` does; what is called .json there is called .jsonl here, since its lines are objects.
class HubSource {
 public:
  // InputError: the data set is not of a hub, or the catalogue does not say what is needed.
  HubSource(const schema::Catalogue& catalogue, const schema::Catalogue::Entry& entry);

  const std::string& repository() const { return repository_; }
  const std::string& revision() const { return revision_; }
  const std::string& folder() const { return folder_; }  // below which all files come to lie
  // One that holds all files of the repository that may match; "": the repository itself.
  std::string folder_of_hub() const;
  std::string patterns() const;  // for messages
  // Where a file of the repository comes to lie; nothing: it does not match, or has a name of the files that fetching makes beside others,
  // which no reader takes.
  std::optional<std::string> place_of(const std::string& path) const;

 private:
  struct Pattern {
    std::string hub, here;
  };
  std::string repository_, revision_ = "main", folder_;
  std::vector<Pattern> patterns_;
};

}  // namespace zerostep
