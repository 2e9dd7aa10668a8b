#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

struct HttpSettings {
  // Goes to the scheme, host and port of `token_for` alone, wherever redirects lead.
  std::string token, token_for;
  // How long an answer may bring less than 1 KiB a second.
  int64_t stall_seconds = 60;
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // "Name: value", to each host that is asked
};

enum class HttpTrouble : uint8_t {
  None,
  NotReached,  // no host of that name, nobody answers there, or not by TLS
  Untrusted,   // its certificate is not one of a known authority, or not its own
  Broken,      // the answer was cut, or stalled
  Forbidden,   // an address of another kind than http and https, https that redirects to http, redirects without end
  Stopped      // HttpBody wanted no more
};

struct HttpAnswer {
  int status = 0;                                           // of the last host that answered; 0: none did
  std::string url;                                          // that was asked last, behind redirects
  std::map<std::string, std::string, std::less<>> headers;  // of the last answer, names in small letters
  std::string text;                                         // of an answer that is no success: how it begins
  HttpTrouble trouble = HttpTrouble::None;
  std::string reason;  // of the trouble

  std::string header(std::string_view name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  bool is_whole() const { return trouble == HttpTrouble::None && status >= 200 && status < 300; }
};

// Takes the content of a successful answer. What it throws comes out of HttpClient::get.
class HttpBody {
 public:
  virtual ~HttpBody() = default;
  // Once for each answer, before its content. False: it is not wanted.
  virtual bool begin(const HttpAnswer& answer) = 0;
  virtual bool take(std::string_view part) = 0;
};

// Asks one host after the other; connections are kept. Certificates are verified, proxies are those of the environment (https_proxy and its
// like, as curl takes them), authorities those of the system, or of CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // Follows redirects; blocks until the content has come.
  virtual HttpAnswer get(const HttpRequest& request, HttpBody& body) = 0;
};

// By libcurl, which is opened when it is first asked for: RunError naming what is missing.
std::unique_ptr<HttpClient> open_http_client(const HttpSettings& settings);

}  // namespace zerostep
