#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "sharding/communicator.h"
#include "tests/sharding/support/half_reference.h"

namespace zerostep::test {

// Sizes on both sides of the borders between the paths: nothing, odd, one handshake (4 KiB), whole lines and not.
inline const std::vector<int64_t> kCounts = {0, 1, 17, 255, 1025, 4099, 40000};
inline constexpr DType kTypes[] = {DType::F32, DType::BF16, DType::F16, DType::F64};

// Memory that peers can read, given out in pieces; the same on every rank.
class SharedArena {
 public:
  explicit SharedArena(Communicator& world) : buffer_(world.allocate(size_t{6} << 20, "operands")) {}
  char* take(int64_t num_bytes) {
    char* piece = static_cast<char*>(buffer_->data()) + used_;
    used_ += round_up(num_bytes, kAlignmentBytes);
    EXPECT_LE(used_, static_cast<int64_t>(buffer_->num_bytes()));
    return piece;
  }
  void reset() { used_ = 0; }

 private:
  std::shared_ptr<CommBuffer> buffer_;
  int64_t used_ = 0;
};

// Operands of one rank, in memory that peers can read (with an arena) or not, guarded by an element on either side.
class Operands {
 public:
  Operands(SharedArena* arena, int64_t count, DType type) : count_(count), type_(type) {
    if (!arena) memory_.resize(static_cast<size_t>(num_bytes(count + 2, type)));
    data_ = arena ? arena->take(num_bytes(count + 2, type)) : memory_.data();
    write_element(data_, 0, type_, -7);
    write_element(data_, count_ + 1, type_, -7);
  }
  void* at(int64_t index) { return data_ + num_bytes(index + 1, type_); }
  void set(int64_t index, double value) { write_element(at(0), index, type_, value); }
  double get(int64_t index) { return read_element(at(0), index, type_); }
  bool guards_stand() { return read_element(data_, 0, type_) == -7 && read_element(data_, count_ + 1, type_) == -7; }

 private:
  int64_t count_;
  DType type_;
  std::vector<char> memory_;
  char* data_;
};

// A value as it is after being stored in the type.
inline double rounded(double value, DType type) {
  char element[8];
  write_element(element, 0, type, value);
  return read_element(element, 0, type);
}

// The documented sum: rank order, fp32 (fp64 for F64), rounded once.
inline double sum_of_ranks(int ranks, DType type, uint64_t index, uint64_t salt) {
  double sum = rounded(sample(0, index, salt), type);
  for (int rank = 1; rank < ranks; ++rank) {
    const double value = rounded(sample(rank, index, salt), type);
    sum = type == DType::F64 ? sum + value : static_cast<double>(static_cast<float>(sum) + static_cast<float>(value));
  }
  return sum;
}

inline int64_t wrong_gathered(Operands& target, int64_t count, int ranks, DType type, uint64_t salt) {
  int64_t wrong = 0;
  for (int rank = 0; rank < ranks; ++rank)
    for (int64_t i = 0; i < count; ++i) wrong += target.get(rank * count + i) != rounded(sample(rank, i, salt), type);
  return wrong;
}

}  // namespace zerostep::test
