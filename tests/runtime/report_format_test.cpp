#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/format.h"

namespace zerostep {
namespace {

TEST(Format, GroupsDigits) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(-123456), "-123,456");
  EXPECT_EQ(grouped(INT64_MIN), "-9,223,372,036,854,775,808");
}

TEST(Format, Counts) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(0.5), "0.50");
  EXPECT_EQ(human_count(124439808), "124.4 M");
  EXPECT_EQ(human_count(1e15), "1.00 P");
  EXPECT_EQ(human_count(999999), "1.00 M");  // never "1000 k"
  EXPECT_EQ(human_count(INFINITY), "inf");
  EXPECT_EQ(human_quantity(1.5e9, "FLOPs"), "1.50 GFLOPs");
  EXPECT_EQ(human_quantity(0, "FLOPs"), "0 FLOPs");
}

TEST(Format, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(1024 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(human_bytes(int64_t{3} << 29), "1.50 GiB");
  EXPECT_EQ(human_bytes(INT64_MAX), "8.00 EiB");
}

TEST(Format, BytesThatAreComparedAreExactWhereTheyWouldLookTheSame) {
  const auto text = [](int64_t one, int64_t other) {
    const ComparedBytes bytes = compared_bytes(one, other);
    return bytes.one + " of " + bytes.other;
  };
  EXPECT_EQ(text(5 << 20, 4 << 20), "5.00 MiB of 4.00 MiB");
  EXPECT_EQ(text(5 << 20, 5 << 20), "5.00 MiB of 5.00 MiB");
  EXPECT_EQ(text((5 << 20) + 1, 5 << 20), "5,242,881 bytes of 5,242,880 bytes");
}

TEST(Format, Ranges) {
  EXPECT_EQ(ranges_text({}), "");
  EXPECT_EQ(ranges_text({3}), "3");
  EXPECT_EQ(ranges_text({0, 1}), "0-1");
  EXPECT_EQ(ranges_text({0, 2, 3, 4, 9}), "0, 2-4, 9");
}

TEST(Format, Durations) {
  EXPECT_EQ(human_duration(0.04), "0.0 s");
  EXPECT_EQ(human_duration(9.96), "10 s");
  EXPECT_EQ(human_duration(59.7), "1:00");
  EXPECT_EQ(human_duration(185), "3:05");
  EXPECT_EQ(human_duration(7385), "2:03:05");
  EXPECT_EQ(human_duration(3 * 86400 + 4 * 3600 + 300), "3 d 04:05");
  EXPECT_EQ(human_duration(NAN), "?");
  EXPECT_EQ(human_duration(-1), "?");
  EXPECT_EQ(human_duration(INFINITY), "?");
  EXPECT_EQ(human_step_time(0.00746), "7.5 ms");
  EXPECT_EQ(human_step_time(0.99996), "1.00 s");
  EXPECT_EQ(human_step_time(12.345), "12.35 s");
  EXPECT_EQ(human_step_time(599.99), "599.99 s");
  EXPECT_EQ(human_step_time(9090), "151.5 min");
}

TEST(Format, NumbersReadBackAsTheyWere) {
  const double nasty[] = {0.1, 1.0 / 3,      1e-3, 5e-324, 1.7976931348623157e308, -2.2250738585072014e-308, 5.5491123199462891,
                          0.0, 4294967296.0, 1e22};
  for (double v : nasty) EXPECT_EQ(std::strtod(round_trip(v).c_str(), nullptr), v) << round_trip(v);
  EXPECT_EQ(round_trip(1e-3), "0.001");
  EXPECT_EQ(round_trip(NAN), "nan");
  EXPECT_EQ(round_trip(-INFINITY), "-inf");
}

}  // namespace
}  // namespace zerostep
