#include "base/beside_program.h"
#include "experiments/fetch/curl_library.h"

namespace zerostep {
namespace {

template <typename Function>
Function* curl_function(const char* name) {
  const std::string needs = fmt::format(
      "data fetch needs {}, which a build that finds libcurl and OpenSSL puts beside the program, and these libraries (Debian's package "
      "libcurl4; libcurl4-openssl-dev and libssl-dev to build); files that another program fetches to where the catalogue has them do as "
      "well",
      kCurlLibrary);
  return function_beside_program<Function>(kCurlLibrary, name, needs);
}

}  // namespace

std::unique_ptr<HttpClient> open_http_client(const HttpSettings& settings) {
  std::unique_ptr<HttpClient> client;
  curl_function<OpenHttpClient>(kOpenHttpClient)(settings, client);
  return client;
}

std::unique_ptr<Digest> open_digest(DigestKind kind) {
  std::unique_ptr<Digest> digest;
  curl_function<OpenDigest>(kOpenDigest)(kind, digest);
  return digest;
}

}  // namespace zerostep
