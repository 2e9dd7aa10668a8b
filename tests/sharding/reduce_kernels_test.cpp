#include "sharding/comm/reduce_kernels.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/sharding/support/half_reference.h"

namespace zerostep {
namespace {

using test::format_of;
using test::from_half;
using test::read_element;
using test::sample;
using test::to_half;
using test::write_element;

// Every instruction set that this machine runs, one at a time.
template <typename Body>
void on_every_target(Body&& body) {
  const int64_t supported = hwy::SupportedTargets();
  for (int64_t target = supported; target != 0; target &= target - 1) {
    const int64_t one = target & -target;
    hwy::SetSupportedTargetsForTest(one);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(one));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

bool same_bits(const void* a, const void* b, int64_t count, DType type) {
  return std::memcmp(a, b, static_cast<size_t>(num_bytes(count, type))) == 0;
}

// The documented arithmetic, one element at a time.
double reference(const std::vector<std::vector<char>>& sources, DType source_type, int64_t index, ReduceOp op) {
  double result = read_element(sources[0].data(), index, source_type);
  for (size_t rank = 1; rank < sources.size(); ++rank) {
    const double value = read_element(sources[rank].data(), index, source_type);
    if (op == ReduceOp::Max)
      result = std::isnan(result) || std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : std::max(result, value);
    else
      result = source_type == DType::F64 ? result + value : static_cast<float>(static_cast<float>(result) + static_cast<float>(value));
  }
  return result;
}

TEST(ReduceKernels, SumsInRankOrderForEveryTypeCountAndInstructionSet) {
  // Past the cache whole blocks of 4,096 elements go side by side; a target that is not aligned to a line has a head before them.
  const std::pair<DType, DType> types[] = {{DType::F32, DType::F32}, {DType::BF16, DType::F32}, {DType::BF16, DType::BF16},
                                           {DType::F16, DType::F32}, {DType::F16, DType::F16},  {DType::F64, DType::F64},
                                           {DType::F64, DType::F32}};
  on_every_target([&] {
    for (const auto& [source_type, target_type] : types) {
      for (const int ranks : {1, 2, 3, 7}) {
        for (const int64_t count : {0, 1, 15, 16, 17, 64, 65, 1003, 4231, 8200}) {
          if (count > 4000 && ranks == 7) continue;
          const bool past_cache = count > 4000;
          for (const ReduceOp op : {ReduceOp::Sum, ReduceOp::Max}) {
            const bool accumulate = op == ReduceOp::Sum && count % 2 == 1;
            std::vector<std::vector<char>> sources(ranks);
            std::vector<const void*> pointers;
            for (int rank = 0; rank < ranks; ++rank) {
              sources[rank].resize(num_bytes(count, source_type));
              for (int64_t i = 0; i < count; ++i) write_element(sources[rank].data(), i, source_type, sample(rank, i));
              pointers.push_back(sources[rank].data());
            }
            std::vector<char> target(num_bytes(count + 1, target_type)), expected(target.size());
            for (int64_t i = 0; i <= count; ++i) {  // one more, which must stay
              const double before = sample(99, i);
              write_element(target.data(), i, target_type, before);
              write_element(expected.data(), i, target_type, before);
              if (i == count) break;
              double value = reference(sources, source_type, i, op);
              const double rounded_before = read_element(expected.data(), i, target_type);
              if (accumulate)
                value = source_type == DType::F64 ? rounded_before + value
                                                  : static_cast<float>(static_cast<float>(rounded_before) + static_cast<float>(value));
              write_element(expected.data(), i, target_type, value);
            }
            reduce(pointers.data(), ranks, source_type, target.data(), target_type, count, op, accumulate, past_cache);
            ASSERT_TRUE(same_bits(target.data(), expected.data(), count + 1, target_type))
                << name_of(source_type) << " to " << name_of(target_type) << ", " << ranks << " ranks, " << count << " elements";
          }
        }
      }
    }
  });
}

TEST(ReduceKernels, EveryHalfSurvivesTheWayThroughFp32) {
  std::vector<uint16_t> all(65536), back(65536);
  std::vector<float> wide(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const void* source = all.data();
  on_every_target([&] {
    for (const DType type : {DType::BF16, DType::F16}) {
      reduce(&source, 1, type, wide.data(), DType::F32, 65536, ReduceOp::Sum, false, false);
      reduce(&source, 1, type, back.data(), type, 65536, ReduceOp::Sum, false, false);
      for (int i = 0; i < 65536; ++i) {
        const double expected = from_half(all[i], type);
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(wide[i]) && std::isnan(from_half(back[i], type))) << name_of(type) << " " << i;
        } else {
          ASSERT_EQ(wide[i], expected) << name_of(type) << " " << i;
          ASSERT_EQ(std::signbit(wide[i]), std::signbit(expected));
          ASSERT_EQ(back[i], all[i]) << name_of(type);
        }
      }
    }
  });
}

TEST(ReduceKernels, RoundsToNearestEven) {
  // Sums of two halves of far exponents hit ties, subnormals and overflow; the sum in fp32 is the reference's as well.
  on_every_target([&] {
    for (const DType type : {DType::BF16, DType::F16}) {
      std::vector<uint16_t> a, b;
      for (uint32_t i = 0; i < 65536; i += 7) {
        for (uint32_t j = 1; j < 65536; j += 1021) {
          a.push_back(static_cast<uint16_t>(i));
          b.push_back(static_cast<uint16_t>(j));
        }
      }
      std::vector<uint16_t> out(a.size());
      const void* sources[] = {a.data(), b.data()};
      reduce(sources, 2, type, out.data(), type, static_cast<int64_t>(a.size()), ReduceOp::Sum, false, false);
      for (size_t i = 0; i < a.size(); ++i) {
        const float sum = static_cast<float>(from_half(a[i], type)) + static_cast<float>(from_half(b[i], type));
        if (std::isnan(sum))
          ASSERT_TRUE(std::isnan(from_half(out[i], type)));
        else
          ASSERT_EQ(out[i], to_half(sum, type)) << name_of(type) << " " << a[i] << " + " << b[i];
      }
    }
  });
}

TEST(ReduceKernels, MaximumKeepsNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> a = {1, nan, 3, -1, 5}, b = {2, 2, nan, -2, nan};
  std::vector<float> out(a.size());
  const void* sources[] = {a.data(), b.data()};
  on_every_target([&] {
    reduce(sources, 2, DType::F32, out.data(), DType::F32, 5, ReduceOp::Max, false, false);
    EXPECT_EQ(out[0], 2);
    EXPECT_TRUE(std::isnan(out[1]));
    EXPECT_TRUE(std::isnan(out[2]));
    EXPECT_EQ(out[3], -1);
    EXPECT_TRUE(std::isnan(out[4]));
  });
}

TEST(ReduceKernels, WritesInPlace) {
  for (const size_t place : {0u, 1u, 2u}) {
    std::vector<std::vector<float>> data(3, std::vector<float>(101));
    std::vector<float> expected(101);
    for (size_t i = 0; i < 101; ++i) {
      for (size_t rank = 0; rank < 3; ++rank) data[rank][i] = static_cast<float>(sample(rank, i));
      expected[i] = (data[0][i] + data[1][i]) + data[2][i];
    }
    const void* sources[] = {data[0].data(), data[1].data(), data[2].data()};
    reduce(sources, 3, DType::F32, data[place].data(), DType::F32, 101, ReduceOp::Sum, false, false);
    EXPECT_EQ(data[place], expected);
  }
}

TEST(CopyBytes, CopiesEveryLengthAndAlignmentExactly) {
  on_every_target([&] {
    for (const bool past_cache : {false, true}) {
      for (const size_t offset : {0u, 1u, 4u, 63u}) {
        for (const size_t length : {0u, 1u, 255u, 511u, 512u, 513u, 800u, 4096u, 5001u}) {
          std::vector<unsigned char> source(length + 1), target(length + offset + 64, 0xee);
          for (size_t i = 0; i < length; ++i) source[i] = static_cast<unsigned char>(i * 7 + 3);
          copy_bytes(target.data() + offset, source.data(), length, past_cache);
          ASSERT_TRUE(std::equal(source.begin(), source.begin() + length, target.begin() + offset)) << length << " at " << offset;
          for (size_t i = 0; i < offset; ++i) ASSERT_EQ(target[i], 0xee);
          for (size_t i = offset + length; i < target.size(); ++i) ASSERT_EQ(target[i], 0xee);
        }
      }
    }
  });
}

}  // namespace
}  // namespace zerostep
