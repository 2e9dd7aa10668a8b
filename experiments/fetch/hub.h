#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "experiments/fetch/digest.h"
#include "experiments/fetch/http_client.h"
#include "experiments/fetch/hub_settings.h"

namespace zerostep {

struct HubFile {
  std::string path;  // in its repository
  int64_t num_bytes = 0;
  // Of its content: SHA-256 of a file of Git LFS, else the SHA-1 by which Git names it.
  std::string checksum;
  DigestKind kind = DigestKind::Sha256;
};

// What a question is about, for messages.
struct HubSubject {
  std::string repository, revision, file;  // file "": the repository itself
};

// Data sets of a Hugging Face hub, asked over HTTP: api/datasets/REPOSITORY/... lists, datasets/REPOSITORY/resolve/REVISION/FILE gives.
class Hub {
 public:
  // `say` is told of what is waited for. RunError where the library for it is missing.
  Hub(HubSettings settings, std::function<void(const std::string&)> say);

  const HubSettings& settings() const { return settings_; }

  // The commit that a branch, tag or commit stands for now. RunError where the hub does not say.
  std::string commit_of(const std::string& repository, const std::string& revision);
  // The files of a commit at or below a folder, `subject.file` ("": of the repository), that are wanted by their paths. RunError where the
  // hub's listing is none, has a wanted file without a checksum, or goes on beyond what any data set has.
  std::vector<HubFile> files_below(const HubSubject& subject, const std::string& commit,
                                   const std::function<bool(const std::string& path)>& is_wanted);
  std::string address_of(const std::string& repository, const std::string& commit, const std::string& path) const;

  // Asks until a whole answer comes, or one of a status that the caller wants to see, or that was Stopped by the body. What may pass
  // (a cut or stalled answer, 408, 429, 5xx) is asked again after a pause that doubles, or that the hub names; `request` is made anew each
  // time. Six attempts, and six more after each 64 MiB, of which `received` tells the count. RunError saying what is wrong and what to do.
  HttpAnswer ask(
      const HubSubject& subject, const std::function<HttpRequest()>& request, HttpBody& body, const std::set<int>& wanted = {},
      const std::function<int64_t()>& received = [] { return int64_t{0}; });

 private:
  // Throws where another attempt would give the same answer.
  void check_answer(const HttpAnswer& answer, const HubSubject& subject) const;
  // Seconds until the next attempt.
  double pause_after(const HttpAnswer& answer, int attempts) const;
  [[noreturn]] void give_up(const HttpAnswer& answer, const HubSubject& subject, int attempts) const;
  bool is_own(const std::string& url) const { return url.starts_with(settings_.endpoint + "/"); }
  std::string page_of(const HubSubject& subject) const { return settings_.endpoint + "/datasets/" + subject.repository; }
  std::string token_advice() const;

  HubSettings settings_;
  std::function<void(const std::string&)> say_;
  std::unique_ptr<HttpClient> client_;
  bool has_answered_ = false;
};

}  // namespace zerostep
