#pragma once
#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "base/error.h"

namespace zerostep {

// A 128-bit xxHash of a sequence of strings and numbers; the bounds between them count.
class ContentHash {
 public:
  ContentHash() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }
  ContentHash& add(uint64_t number) { return update(&number, sizeof(number)); }
  ContentHash& add(std::string_view text) {
    add(uint64_t{text.size()});
    return update(text.data(), text.size());
  }
  // The parts of a text, one after the other, whose size add(uint64_t) was given before: as add() of the whole text.
  ContentHash& add_part(std::string_view part) { return update(part.data(), part.size()); }
  // 32 hexadecimal digits.
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  ContentHash& update(const void* data, size_t num_bytes) {
    XXH3_128bits_update(state_.get(), data, num_bytes);
    return *this;
  }
  std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace zerostep
