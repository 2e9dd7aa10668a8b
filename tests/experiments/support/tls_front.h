#pragma once
#include <sys/types.h>

#include <string>

namespace zerostep::testing {

// A server on the loopback that speaks TLS, and hands on what it is asked to another that does not: a script for python3, with a
// certificate that openssl has made for an address.
class TlsFront {
 public:
  // Files of its own lie in `folder`. std::runtime_error where one of the two programs is missing.
  TlsFront(const std::string& folder, const std::string& certified_address, const std::string& plain_url);
  ~TlsFront();
  TlsFront(const TlsFront&) = delete;
  TlsFront& operator=(const TlsFront&) = delete;

  const std::string& url() const { return url_; }
  // Its certificate, which no authority knows.
  const std::string& certificate() const { return certificate_; }

 private:
  std::string certificate_, url_;
  pid_t process_ = -1;
};

}  // namespace zerostep::testing
