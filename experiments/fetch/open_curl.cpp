#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/error.h"
#include "experiments/fetch/http_client.h"

namespace zerostep {
namespace {

template <typename Function>
Function* function_of_library(const char* name) {
  // Never closed: what it makes outlives the call.
  void* const library = dlopen(library_beside_program(kCurlLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_run(
        "data fetch needs {}, which a build that finds libcurl and OpenSSL puts beside the program, and these libraries (Debian's package "
        "libcurl4; libcurl4-openssl-dev and libssl-dev to build): {}; files that another program fetches to where the catalogue has them "
        "do as well",
        kCurlLibrary, dlerror());
  void* const function = dlsym(library, name);
  if (function == nullptr) fail_run("{} is of another version than the program: {}", kCurlLibrary, dlerror());
  return reinterpret_cast<Function*>(function);
}

}  // namespace

std::unique_ptr<HttpClient> open_http_client(const HttpSettings& settings) {
  std::unique_ptr<HttpClient> client;
  function_of_library<OpenHttpClient>(kOpenHttpClient)(settings, client);
  return client;
}

std::unique_ptr<Digest> open_digest(DigestKind kind) {
  std::unique_ptr<Digest> digest;
  function_of_library<OpenDigest>(kOpenDigest)(kind, digest);
  return digest;
}

}  // namespace zerostep
