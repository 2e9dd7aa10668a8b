#pragma once
#include <memory>

#include "experiments/fetch/digest.h"
#include "experiments/fetch/http_client.h"

namespace zerostep {

// What libzerostep_curl.so is opened for.
using OpenHttpClient = void(const HttpSettings& settings, std::unique_ptr<HttpClient>& client);
using OpenDigest = void(DigestKind kind, std::unique_ptr<Digest>& digest);
constexpr const char* kCurlLibrary = "libzerostep_curl.so";
// Their names end with the version of what they give and take: a library of another version has no functions of these names.
constexpr const char* kOpenHttpClient = "zerostep_open_http_client_2";
constexpr const char* kOpenDigest = "zerostep_open_digest_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenHttpClient zerostep_open_http_client_2;
extern "C" __attribute__((visibility("default"))) zerostep::OpenDigest zerostep_open_digest_1;
