#include <openssl/evp.h>

#include <array>
#include <new>

#include "base/error.h"
#include "experiments/fetch/curl_library.h"

namespace zerostep {
namespace {

class OpenSslDigest final : public Digest {
 public:
  explicit OpenSslDigest(DigestKind kind) : context_(EVP_MD_CTX_new()) {
    if (!context_) throw std::bad_alloc();
    const EVP_MD* algorithm = kind == DigestKind::Sha256 ? EVP_sha256() : EVP_sha1();
    if (EVP_DigestInit_ex(context_.get(), algorithm, nullptr) != 1) fail_run("OpenSSL refuses to make a checksum");
  }
  void add(std::string_view part) override {
    if (EVP_DigestUpdate(context_.get(), part.data(), part.size()) != 1) fail_run("OpenSSL cannot go on with a checksum");
  }
  std::string hex() override {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned int count = 0;
    if (EVP_DigestFinal_ex(context_.get(), bytes.data(), &count) != 1) fail_run("OpenSSL cannot end a checksum");
    std::string out;
    for (unsigned int i = 0; i < count; ++i) out += fmt::format("{:02x}", bytes[i]);
    return out;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace
}  // namespace zerostep

void zerostep_open_digest_1(zerostep::DigestKind kind, std::unique_ptr<zerostep::Digest>& digest) {
  digest = std::make_unique<zerostep::OpenSslDigest>(kind);
}
