#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace zerostep {

enum class DigestKind : uint8_t { Sha1, Sha256 };
class Digest {
 public:
  virtual ~Digest() = default;
  virtual void add(std::string_view part) = 0;
  // In small letters. Nothing can be added behind it.
  virtual std::string hex() = 0;
};

// By OpenSSL, which is opened when it is first asked for: RunError naming what is missing.
std::unique_ptr<Digest> open_digest(DigestKind kind);

}  // namespace zerostep
