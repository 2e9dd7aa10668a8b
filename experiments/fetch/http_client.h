#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// How long to wait for a host: to be connected, and with less than so many bytes a second.
struct HttpLimits {
  int64_t connect_seconds = 30, stall_seconds = 60, stall_bytes = 1024;
};

struct HttpSettings {
  std::string agent = "zerostep";
  // Goes to the scheme, host and port of `token_for` alone, wherever redirects lead.
  std::string token, token_for;
  HttpLimits limits;
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

enum class DigestKind : uint8_t { Sha1, Sha256 };
class Digest {
 public:
  virtual ~Digest() = default;
  virtual void add(std::string_view part) = 0;
  // In small letters. Nothing can be added behind it.
  virtual std::string hex() = 0;
};

// By libcurl and OpenSSL, which are opened when they are first asked for: RunError naming what is missing.
std::unique_ptr<HttpClient> open_http_client(const HttpSettings& settings);
std::unique_ptr<Digest> open_digest(DigestKind kind);

// What libzerostep_curl.so is opened for.
using OpenHttpClient = void(const HttpSettings& settings, std::unique_ptr<HttpClient>& client);
using OpenDigest = void(DigestKind kind, std::unique_ptr<Digest>& digest);
constexpr const char* kCurlLibrary = "libzerostep_curl.so";
// Their names end with the version of what they give and take: a library of another version has no functions of these names.
constexpr const char* kOpenHttpClient = "zerostep_open_http_client_1";
constexpr const char* kOpenDigest = "zerostep_open_digest_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenHttpClient zerostep_open_http_client_1;
extern "C" __attribute__((visibility("default"))) zerostep::OpenDigest zerostep_open_digest_1;
