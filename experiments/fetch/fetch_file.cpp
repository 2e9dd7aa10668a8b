#include "experiments/fetch/fetch_file.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"
#include "base/format.h"
#include "experiments/fetch/part_file.h"

namespace zerostep {
namespace {

// A number that a text begins with; -1: none.
int64_t leading_number(std::string_view text) {
  int64_t value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Puts what comes where it belongs in the file.
class FileBody final : public HttpBody {
 public:
  FileBody(PartFile& part, const FetchFileRequest& request) : part_(part), request_(request) {}

  HttpRequest ask() {
    asked_from_ = part_.num_bytes();
    if (asked_from_ == 0) return {request_.url, {}};
    return {request_.url, {fmt::format("Range: bytes={}-", asked_from_)}};
  }

  bool begin(const HttpAnswer& answer) override {
    problem_.clear();
    is_of_another_size_ = false;
    const int64_t length = leading_number(answer.header("content-length"));
    if (answer.status == 206) {
      // "bytes 100-199/200"
      const std::string range = answer.header("content-range");
      const size_t slash = range.find('/');
      const int64_t first = range.starts_with("bytes ") ? leading_number(std::string_view(range).substr(6)) : -1;
      const int64_t all = slash == std::string::npos ? -1 : leading_number(std::string_view(range).substr(slash + 1));
      if (first != asked_from_ || (all >= 0 && all != request_.file.num_bytes)) {
        problem_ =
            fmt::format("answers with '{}' where bytes from {} on of {} were asked for", range, asked_from_, request_.file.num_bytes);
        return false;
      }
    } else {
      if (length >= 0 && length != request_.file.num_bytes) {
        problem_ = fmt::format("sends {} bytes where its listing says {}", length, request_.file.num_bytes);
        is_of_another_size_ = true;
        return false;
      }
      if (part_.num_bytes() > 0) {
        request_.say(fmt::format("'{}' starts anew: its server sends all of it, not what follows the first {}", request_.file.path,
                                 human_bytes(part_.num_bytes())));
        part_.start_anew();
      }
    }
    request_.progress(part_.num_bytes());
    return true;
  }

  bool take(std::string_view part) override {
    if (part_.num_bytes() + static_cast<int64_t>(part.size()) > request_.file.num_bytes) {
      problem_ = fmt::format("sends more than the {} bytes of its listing", request_.file.num_bytes);
      return false;
    }
    part_.append(part);
    request_.progress(part_.num_bytes());
    return true;
  }

  // Why an answer was not taken; "": it was.
  const std::string& problem() const { return problem_; }
  // The problem was a whole answer of another size, such as a page of a proxy: it tells nothing of what is here.
  bool is_of_another_size() const { return is_of_another_size_; }

 private:
  PartFile& part_;
  const FetchFileRequest& request_;
  int64_t asked_from_ = 0;
  std::string problem_;
  bool is_of_another_size_ = false;
};

// Until all bytes are there. A server may send less than what was asked for; each answer that brings the file further is welcome.
void fill(Hub& hub, const FetchFileRequest& request, PartFile& part) {
  FileBody body(part, request);
  constexpr int kMostInVain = 6;
  int64_t most = part.num_bytes();  // that have been here at once
  for (int odd = 0, in_vain = 0; !part.is_all();) {
    const HttpAnswer answer = hub.ask(
        request.subject, [&] { return body.ask(); }, body, {416}, [&] { return part.num_bytes(); });
    if (part.is_all()) return;
    std::string problem = body.problem();
    if (answer.status == 416) problem = fmt::format("has nothing behind the first {} bytes", part.num_bytes());
    if (!problem.empty()) {
      if (++odd > 1)
        fail_run("'{}': {} {}: the file has changed meanwhile, or something between the hub and here changes it; fetch again later",
                 request.file.path, answer.url, problem);
      if (answer.status != 416 && body.is_of_another_size()) {
        request.say(fmt::format("'{}' is asked for again: its server {}", request.file.path, problem));
      } else {
        request.say(fmt::format("'{}' starts anew: its server {}", request.file.path, problem));
        part.start_anew();
      }
    } else if (part.num_bytes() > most) {
      in_vain = 0;
      most = part.num_bytes();
    } else if (++in_vain == kMostInVain) {
      fail_run("'{}': {} sends no more than the first {} of {} bytes, {} times: the same command goes on from there", request.file.path,
               answer.url, part.num_bytes(), request.file.num_bytes, in_vain);
    }
  }
}

}  // namespace

void fetch_file(Hub& hub, const FetchFileRequest& request) {
  PartFile part(request.path, request.file);
  const char* const kind = request.file.kind == DigestKind::Sha256 ? "SHA-256" : "SHA-1 (of Git)";
  for (;;) {
    const bool is_from_before = part.is_from_before();
    if (is_from_before) request.say(fmt::format("'{}' goes on behind its first {}", request.file.path, human_bytes(part.num_bytes())));
    request.progress(part.num_bytes());
    fill(hub, request, part);
    const std::string checksum = part.checksum();
    if (checksum == request.file.checksum) break;
    if (part.is_from_before()) {
      request.say(fmt::format("'{}' starts anew: what was here of it is damaged (its {} is {}, the hub's {})", request.file.path, kind,
                              checksum, request.file.checksum));
      part.start_anew();
      continue;
    }
    part.remove();
    fail_run(
        "'{}' has a wrong checksum: the {} of what came is {}, the hub lists {}; it is removed: fetch it again, and where that gives the "
        "same, something between the hub and here changes it",
        request.file.path, kind, checksum, request.file.checksum);
  }
  part.finish();
}

}  // namespace zerostep
