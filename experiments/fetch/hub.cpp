#include "experiments/fetch/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {
namespace {

constexpr int kMostAttempts = 6;
constexpr int64_t kProgressBytes = int64_t{64} << 20;
constexpr double kMostPause = 300;  // seconds that a hub may ask to wait

bool may_pass(const HttpAnswer& answer) {
  if (answer.trouble == HttpTrouble::NotReached || answer.trouble == HttpTrouble::Broken) return true;
  return answer.status == 408 || answer.status == 425 || answer.status == 429 || answer.status >= 500;
}

const char* name_of_status(int status) {
  switch (status) {
    case 401:
      return " (unauthorized)";
    case 403:
      return " (forbidden)";
    case 404:
      return " (not found)";
    case 429:
      return " (too many requests)";
    case 500:
      return " (internal error)";
    case 502:
    case 503:
    case 504:
      return " (not available)";
    default:
      return "";
  }
}

// "429 (too many requests)", or what became of the connection.
std::string outcome_of(const HttpAnswer& answer) {
  if (answer.trouble == HttpTrouble::NotReached) return fmt::format("cannot be reached: {}", answer.reason);
  if (answer.trouble != HttpTrouble::None) return fmt::format("breaks off: {}", answer.reason);
  return fmt::format("answers {}{}", answer.status, name_of_status(answer.status));
}

// What a hub says of an error, short enough for a message.
std::string words_of(const HttpAnswer& answer) {
  std::string words = answer.header("x-error-message");
  if (words.empty()) words = answer.text.substr(0, answer.text.find('\n'));
  return words.empty() ? "" : fmt::format(" ({})", words.substr(0, 200));
}

// "https://host" of an address.
std::string host_of(const std::string& url) {
  const size_t begin = url.find("://");
  return begin == std::string::npos ? url : url.substr(0, url.find_first_of("/?", begin + 3));
}

// Retry-After: seconds, or a time; or the seconds until a rate limit ends, 'RateLimit: "resolvers";r=0;t=55'. Nothing where the answer did
// not come whole.
std::optional<double> asked_pause(const HttpAnswer& answer) {
  if (answer.trouble != HttpTrouble::None) return std::nullopt;
  const std::string text = answer.header("retry-after");
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size()) return static_cast<double>(std::max<int64_t>(0, seconds));
  if (const std::string limit = answer.header("ratelimit"); text.empty() && limit.find(";t=") != std::string::npos)
    return static_cast<double>(std::max(0L, std::strtol(limit.c_str() + limit.find(";t=") + 3, nullptr, 10)));
  std::tm time{};
  if (text.empty() || ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &time) == nullptr) return std::nullopt;
  return std::max(0.0, std::difftime(::timegm(&time), std::time(nullptr)));
}

std::string named(const HubSubject& subject) {
  const std::string set = fmt::format("data set '{}' at revision '{}'", subject.repository, subject.revision);
  return subject.file.empty() ? set : fmt::format("'{}' of {}", subject.file, set);
}

}  // namespace

Hub::Hub(HubSettings settings, std::function<void(const std::string&)> say) : settings_(std::move(settings)), say_(std::move(say)) {
  client_ = open_http_client({.token = settings_.token, .token_for = settings_.endpoint, .stall_seconds = settings_.stall_seconds});
}

HttpAnswer Hub::ask(const HubSubject& subject, const std::function<HttpRequest()>& request, HttpBody& body, const std::set<int>& wanted,
                    const std::function<int64_t()>& received) {
  int64_t received_before = received();
  for (int attempts = 1;; ++attempts) {
    HttpAnswer answer = client_->get(request(), body);
    if (answer.is_whole() || answer.trouble == HttpTrouble::Stopped || wanted.contains(answer.status)) {
      has_answered_ = true;
      return answer;
    }
    check_answer(answer, subject);
    has_answered_ = true;
    if (received() - received_before >= kProgressBytes) {
      received_before = received();
      attempts = 1;
    }
    const double pause = pause_after(answer, attempts);
    if (attempts == kMostAttempts || pause > kMostPause) give_up(answer, subject, attempts);
    say_(fmt::format("{} {}; again in {} (attempt {} of {})", host_of(answer.url), outcome_of(answer), human_duration(pause), attempts + 1,
                     kMostAttempts));
    std::this_thread::sleep_for(std::chrono::duration<double>(pause));
  }
}

std::string Hub::token_advice() const {
  if (!settings_.token.empty()) return fmt::format("the token of {} was sent", settings_.token_from);
  return fmt::format("no token was sent: set HF_TOKEN to one of yours ({}/settings/tokens){}", settings_.endpoint,
                     settings_.token_file.empty() ? "" : fmt::format(", or leave it in {}", settings_.token_file));
}

void Hub::check_answer(const HttpAnswer& answer, const HubSubject& subject) const {
  const std::string host = host_of(answer.url);
  const char* const other = settings_.is_endpoint_given ? "HF_ENDPOINT names this hub" : "HF_ENDPOINT names another hub, or a mirror";
  if (answer.trouble == HttpTrouble::NotReached && !has_answered_)
    fail_run("{} cannot be reached: {}; {}, https_proxy a proxy on the way to it", host, answer.reason, other);
  if (answer.trouble == HttpTrouble::Untrusted)
    fail_run("{} cannot be trusted: {}; {}, CURL_CA_BUNDLE a file of further authorities", host, answer.reason, other);
  if (answer.trouble == HttpTrouble::Forbidden)
    fail_run("{}: {}, which is not followed: redirects lead from http to http or https and from https to https, ten at most; {}",
             answer.url, answer.reason, other);
  if (may_pass(answer)) return;
  const int status = answer.status;
  // Addresses of other hosts are good for a while; the hub gives new ones.
  if ((status == 401 || status == 403) && !is_own(answer.url)) return;
  if (status == 401 || status == 403)
    fail_run(
        "{} {} for {}{}: {}, and it must be allowed to read the data set, whose terms, where it has some, are accepted at {}; a hub "
        "also answers so for a data set that it has not",
        host, outcome_of(answer), named(subject), words_of(answer), token_advice(), page_of(subject));
  if (status == 404 && is_own(answer.url))
    fail_run("{} {} for {}{}: see {} for what there is, and correct \"source\" in the catalogue", host, outcome_of(answer), named(subject),
             words_of(answer), page_of(subject));
  fail_run("{} {} for {}{}{}", host, outcome_of(answer), named(subject), words_of(answer),
           is_own(answer.url) ? "" : fmt::format("; {} redirects there: fetch again later", settings_.endpoint));
}

double Hub::pause_after(const HttpAnswer& answer, int attempts) const {
  const double own = settings_.pause_seconds * std::pow(2, attempts - 1);
  return asked_pause(answer).value_or(own);
}

void Hub::give_up(const HttpAnswer& answer, const HubSubject& subject, int attempts) const {
  const double asked = asked_pause(answer).value_or(0);
  std::string advice;
  if (answer.status == 429 && answer.trouble == HttpTrouble::None)
    advice = token_advice() + "; a hub allows more to those who have a token; ";
  fail_run("{} {} for {}{}, after {}{}: {}the same command goes on from what is here", host_of(answer.url), outcome_of(answer),
           named(subject), answer.trouble == HttpTrouble::None ? words_of(answer) : "", counted(attempts, "attempt"),
           asked > kMostPause ? fmt::format(", and asks to wait {}", human_duration(asked)) : "", advice);
}

}  // namespace zerostep
