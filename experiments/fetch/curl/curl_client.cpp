#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <new>

#include "base/error.h"
#include "experiments/fetch/curl_library.h"

namespace zerostep {
namespace {

constexpr int kMostRedirects = 10;
constexpr size_t kMostText = 4096;         // of an answer that is no success
constexpr long kBufferBytes = 512 * 1024;  // libcurl's largest
constexpr long kConnectSeconds = 30;
constexpr long kStallBytes = 1024;  // a second

// "https://host:443" of an address; "": it is none of http or https.
std::string origin_of(const std::string& url) {
  struct Parts {
    CURLU* handle = curl_url();
    ~Parts() { curl_url_cleanup(handle); }
  } parts;
  if (parts.handle == nullptr) throw std::bad_alloc();
  if (curl_url_set(parts.handle, CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return "";
  std::string out;
  for (const auto& [part, before] : {std::pair(CURLUPART_SCHEME, ""), {CURLUPART_HOST, "://"}, {CURLUPART_PORT, ":"}}) {
    char* text = nullptr;
    if (curl_url_get(parts.handle, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return "";
    out += std::string(before) + text;
    curl_free(text);
  }
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out.starts_with("http") ? out : "";
}

// One answer of one host while it comes.
struct Transfer {
  HttpAnswer answer;
  HttpBody* body = nullptr;
  bool has_begun = false, is_stopped = false;
  std::exception_ptr thrown;

  bool is_success() const { return answer.status >= 200 && answer.status < 300; }
  bool begin() {
    if (has_begun) return true;
    has_begun = true;
    return body->begin(answer);
  }
};

// Nothing may be thrown through libcurl.
template <typename F>
size_t guarded(Transfer& transfer, size_t size, const F& take) {
  try {
    if (take()) return size;
    transfer.is_stopped = true;
  } catch (...) {
    transfer.thrown = std::current_exception();
  }
  return size + 1;  // any other number than what was handed over ends the transfer
}

size_t take_header(char* data, size_t one, size_t size, void* into) {
  auto& transfer = *static_cast<Transfer*>(into);
  return guarded(transfer, one * size, [&] {
    std::string_view line(data, one * size);
    if (line.starts_with("HTTP/")) {  // a status line: of a further answer where one came before ("100 Continue")
      transfer.answer.headers.clear();
      const size_t space = line.find(' ');
      transfer.answer.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
      return true;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    line.remove_prefix(colon + 1);
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.front()))) line.remove_prefix(1);
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.remove_suffix(1);
    transfer.answer.headers[name] = line;
    return true;
  });
}

size_t take_body(char* data, size_t one, size_t size, void* into) {
  auto& transfer = *static_cast<Transfer*>(into);
  return guarded(transfer, one * size, [&] {
    const std::string_view part(data, one * size);
    if (transfer.is_success()) return transfer.begin() && transfer.body->take(part);
    std::string& text = transfer.answer.text;
    text += part.substr(0, kMostText - std::min(kMostText, text.size()));
    return true;
  });
}

HttpTrouble trouble_of(CURLcode code, bool is_connected) {
  switch (code) {
    case CURLE_OK:
      return HttpTrouble::None;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PROXY:
      return HttpTrouble::NotReached;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return HttpTrouble::Untrusted;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return HttpTrouble::Forbidden;
    case CURLE_OPERATION_TIMEDOUT:
      return is_connected ? HttpTrouble::Broken : HttpTrouble::NotReached;
    default:
      return HttpTrouble::Broken;
  }
}

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(const HttpSettings& settings) : settings_(settings), token_origin_(origin_of(settings.token_for)) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    handle_.reset(curl_easy_init());
    if (!handle_) throw std::bad_alloc();
  }

  HttpAnswer get(const HttpRequest& request, HttpBody& body) override {
    std::string url = request.url;
    for (int redirects = 0;; ++redirects) {
      std::string next;
      HttpAnswer answer = get_one(url, request.headers, body, next);
      if (next.empty()) return answer;
      answer.trouble = HttpTrouble::Forbidden;
      answer.reason = "it redirects to " + next;
      if (redirects == kMostRedirects) answer.reason += fmt::format(", the last of {} redirects", redirects);
      const std::string from = origin_of(url), to = origin_of(next);
      if (redirects == kMostRedirects || to.empty() || (from.starts_with("https:") && !to.starts_with("https:"))) return answer;
      url = next;
    }
  }

 private:
  struct FreeList {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  struct FreeHandle {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  };

  template <typename Value>
  void set(CURLoption option, Value value) {
    if (const CURLcode code = curl_easy_setopt(handle_.get(), option, value); code != CURLE_OK)
      fail_run("libcurl {} refuses an option ({}): {}", curl_version_info(CURLVERSION_NOW)->version, static_cast<int>(option),
               curl_easy_strerror(code));
  }

  void set_all(const std::string& url, curl_slist* headers, Transfer& transfer, char* message) {
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_HTTPHEADER, headers);
    set(CURLOPT_USERAGENT, "zerostep");
    set(CURLOPT_ERRORBUFFER, message);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, kStallBytes);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.stall_seconds));
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    // As the program curl reads them; the library leaves them to its callers.
    const auto set_path = [&](const char* variable, CURLoption option) {
      const char* path = std::getenv(variable);
      if (path != nullptr && *path != '\0') set(option, path);
    };
    set_path("SSL_CERT_DIR", CURLOPT_CAPATH);
    set_path("SSL_CERT_FILE", CURLOPT_CAINFO);
    set_path("CURL_CA_BUNDLE", CURLOPT_CAINFO);
    set(CURLOPT_HEADERFUNCTION, &take_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
    set(CURLOPT_WRITEFUNCTION, &take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  }

  // Without redirects: `next` is where one leads, or "".
  HttpAnswer get_one(const std::string& url, const std::vector<std::string>& headers, HttpBody& body, std::string& next) {
    Transfer transfer;
    transfer.body = &body;
    transfer.answer.url = url;
    std::vector<std::string> lines = headers;
    if (!settings_.token.empty() && !token_origin_.empty() && origin_of(url) == token_origin_)
      lines.push_back("Authorization: Bearer " + settings_.token);
    std::unique_ptr<curl_slist, FreeList> list;
    for (const std::string& line : lines) {
      curl_slist* const longer = curl_slist_append(list.get(), line.c_str());
      if (longer == nullptr) throw std::bad_alloc();
      list.release();
      list.reset(longer);
    }
    std::string message(CURL_ERROR_SIZE, '\0');
    // What the handle points to goes with this call.
    struct Reset {
      CURL* handle;
      ~Reset() { curl_easy_reset(handle); }
    } const reset{handle_.get()};
    set_all(url, list.get(), transfer, message.data());
    const CURLcode code = curl_easy_perform(handle_.get());
    if (transfer.thrown) std::rethrow_exception(transfer.thrown);
    HttpAnswer& answer = transfer.answer;
    if (transfer.is_stopped) {
      answer.trouble = HttpTrouble::Stopped;
      return answer;
    }
    double connected = 0;
    curl_easy_getinfo(handle_.get(), CURLINFO_CONNECT_TIME, &connected);
    answer.trouble = trouble_of(code, connected > 0 || answer.status != 0);
    if (code != CURLE_OK) {
      answer.reason = message.c_str();
      if (answer.reason.empty()) answer.reason = curl_easy_strerror(code);
      return answer;
    }
    const char* redirect = nullptr;
    curl_easy_getinfo(handle_.get(), CURLINFO_REDIRECT_URL, &redirect);
    if (answer.status >= 300 && answer.status < 400 && redirect != nullptr) next = redirect;
    if (transfer.is_success() && !transfer.begin()) answer.trouble = HttpTrouble::Stopped;
    return answer;
  }

  HttpSettings settings_;
  std::string token_origin_;
  std::unique_ptr<CURL, FreeHandle> handle_;
};

}  // namespace
}  // namespace zerostep

void zerostep_open_http_client_2(const zerostep::HttpSettings& settings, std::unique_ptr<zerostep::HttpClient>& client) {
  client = std::make_unique<zerostep::CurlClient>(settings);
}
