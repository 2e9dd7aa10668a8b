#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "experiments/fetch/hub_settings.h"
#include "experiments/fetch/hub_source.h"

namespace zerostep {

// How far a data set has come.
struct FetchState {
  std::string file;                          // in its repository
  int64_t file_number = 0, num_files = 0;    // from 1; all that are to be here
  int64_t num_bytes = 0, bytes_of_file = 0;  // here, of the file
  int64_t fetched_bytes = 0;                 // by this process, with those that it has thrown away
  std::optional<int64_t> bytes_to_fetch;     // of them all in all; nothing: it depends on the rows
  bool is_whole = false;                     // the file, and checked
};

struct FetchRequest {
  std::string name;
  HubSettings hub;
  int64_t documents = 0;  // 0: everything; otherwise the first files, until they have so many rows
  std::function<void(const FetchState&)> progress = [](const FetchState&) {};
  std::function<void(const std::string&)> say = [](const std::string&) {};
};

struct FetchOutcome {
  std::string commit;
  int64_t num_files = 0, num_bytes = 0;  // here, of the files that were wanted
  int64_t all_files = 0;                 // of the data set
  int64_t fetched_files = 0, fetched_bytes = 0;
  std::optional<int64_t> rows;  // of the files here, where `documents` limits them
};

// Brings the files of a data set from its hub to where the catalogue has them, one after the other in the order of their names; what is
// here and whole is not fetched again. Two that fetch the same data set wait for each other. InputError where a file is here that is not
// the hub's; RunError of Hub and fetch_file, and where the disk has no room.
FetchOutcome fetch_data_set(const HubSource& source, const FetchRequest& request);

}  // namespace zerostep
