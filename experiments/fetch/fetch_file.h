#pragma once
#include <functional>
#include <string>

#include "experiments/fetch/hub.h"

namespace zerostep {

// Brings one file of a hub to `path`, whose folder must be there: through PartFile, from what an earlier attempt has left, and checked.
// `progress` is told how many bytes of the file are here. `say` is told what is not as usual. RunError of Hub::ask and PartFile, and where
// the checksum is another: the file is then removed.
struct FetchFileRequest {
  HubSubject subject;
  HubFile file;
  std::string url, path;
  std::function<void(int64_t num_bytes)> progress = [](int64_t) {};
  std::function<void(const std::string&)> say = [](const std::string&) {};
};
void fetch_file(Hub& hub, const FetchFileRequest& request);

}  // namespace zerostep
