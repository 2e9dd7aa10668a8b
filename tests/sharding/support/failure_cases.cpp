#include <gtest/gtest.h>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/operands.h"
#include "tests/support/message_of.h"

namespace zerostep::test {
namespace {

using testing::message_of;

// A rank that runs another collective than the others: an error on every rank that names both sides.
template <typename Diverge>
void expect_mismatch(Communicator& world, const std::string& usual, const std::string& other, Diverge&& diverge) {
  if (world.size() == 1) return;
  Communicator group = world.split(0, world.rank());
  const std::string error = message_of<RunError>([&] { diverge(group, group.rank() == group.size() - 1); });
  EXPECT_NE(error.find("diverged"), std::string::npos) << error;
  EXPECT_NE(error.find(fmt::format("rank 0 runs {}", usual)), std::string::npos) << error;
  EXPECT_NE(error.find(fmt::format("rank {} runs {}", group.size() - 1, other)), std::string::npos) << error;
  // The group stays failed; the one it was split from goes on.
  Stream stream = Stream::inline_stream();
  EXPECT_NE(message_of<RunError>([&] { group.barrier(stream, "after").wait(); }), "nothing thrown");
  Stream next = Stream::inline_stream();
  world.barrier(next, "world goes on").wait();
}

void mismatches(Communicator world) {
  std::vector<float> a(20000 * static_cast<size_t>(world.size())), b(a.size());
  Stream stream = Stream::inline_stream();
  expect_mismatch(world, "all-gather of 'h.3' (1,234 elements of fp32)", "barrier 'h.3'", [&](Communicator& group, bool odd) {
    Stream own = Stream::inline_stream();
    const Segment segment{a.data(), b.data(), 1234};
    if (odd)
      group.barrier(own, "h.3").wait();
    else
      group.all_gather({&segment, 1}, DType::F32, own, "h.3").wait();
  });
  expect_mismatch(world, "all-gather of 'h.3' (15,000 elements of fp32)", "all-gather of 'h.4' (15,000",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 15000};
                    group.all_gather({&segment, 1}, DType::F32, own, odd ? "h.4" : "h.3").wait();
                  });
  expect_mismatch(world, "reduce-scatter of 'h' (10 elements of fp32)", "reduce-scatter of 'h' (10,001 elements of fp32)",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), odd ? 10001 : 10};
                    group.reduce_scatter({&segment, 1}, DType::F32, DType::F32, false, own, "h").wait();
                  });
  expect_mismatch(world, "all-reduce of 'n' (100 elements of fp32)", "all-reduce of 'n' (100 elements of bf16)",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 100};
                    group.all_reduce({&segment, 1}, odd ? DType::BF16 : DType::F32, ReduceOp::Sum, own, "n").wait();
                  });
  expect_mismatch(world, "all-reduce of 'n' (100 elements of fp32)", "all-reduce of 'n' (100 elements of fp32) taking the maximum",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 100};
                    group.all_reduce({&segment, 1}, DType::F32, odd ? ReduceOp::Max : ReduceOp::Sum, own, "n").wait();
                  });
  expect_mismatch(world, "all-reduce of 's' (1 elements of fp64)", "all-gather of 's' (8 bytes)", [&](Communicator& group, bool odd) {
    double value = 1;
    if (odd)
      group.all_gather_text("x", "s");
    else
      group.all_reduce_scalars({&value, 1}, ReduceOp::Sum, "s");
  });
  // The same total in other segments, and a label that differs past what is kept of it.
  expect_mismatch(world, "all-gather of 'h' (30 elements of fp32)",
                  "all-gather of 'h' (30 elements of fp32) in 2 segments with segments of other", [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment two[] = {{a.data(), b.data(), odd ? 10 : 20}, {a.data(), b.data() + 2000, odd ? 20 : 10}};
                    group.all_gather(two, DType::F32, own, "h").wait();
                  });
  const std::string long_label(200, 'x');
  expect_mismatch(world, "barrier 'xxxx", "barrier 'xxxx", [&](Communicator& group, bool odd) {
    Stream own = Stream::inline_stream();
    group.barrier(own, odd ? (long_label + "y").c_str() : long_label.c_str()).wait();
  });
}

// Exchanges, small and large: the last rank has another count, another giver, one transfer more, another operation.
void exchange_mismatches(Communicator world) {
  std::vector<float> a(20000), b(60000);
  const auto transfer = [&](int from, int to, int64_t count, int place) { return Transfer{from, to, a.data(), b.data() + place, count}; };
  const auto expect = [&](const std::string& usual, const std::string& other, const std::vector<Transfer>& mine,
                          const std::vector<Transfer>& odd_ones) {
    expect_mismatch(world, usual, other, [&](Communicator& group, bool odd) {
      Stream own = Stream::inline_stream();
      group.exchange(odd ? odd_ones : mine, DType::F32, own, "h").wait();
    });
  };
  expect("exchange of 'h' (10 elements of fp32)", "exchange of 'h' (11 elements of fp32)", {transfer(0, 1, 10, 0)},
         {transfer(0, 1, 11, 0)});
  expect("exchange of 'h' (10 elements of fp32)", "exchange of 'h' (20,000 elements of fp32)", {transfer(0, 1, 10, 0)},
         {transfer(0, 1, 20000, 0)});
  expect("exchange of 'h' (0 elements of fp32)", "exchange of 'h' (20,000 elements of fp32)", {}, {transfer(0, 1, 20000, 0)});
  expect("exchange of 'h' (9,000 elements of fp32)",
         "exchange of 'h' (9,000 elements of fp32) with transfers of other sizes or between other ranks", {transfer(0, 1, 9000, 0)},
         {transfer(1, 0, 9000, 0)});
  expect("exchange of 'h' (9,000 elements of fp32) in 2 transfers",
         "exchange of 'h' (9,000 elements of fp32) in 2 transfers with transfers of other sizes",
         {transfer(0, 1, 4000, 0), transfer(1, 0, 5000, 10000)}, {transfer(0, 1, 5000, 0), transfer(1, 0, 4000, 10000)});
  expect("exchange of 'h' (9,000 elements of fp32)", "exchange of 'h' (9,000 elements of fp32) in 2 transfers", {transfer(0, 1, 9000, 0)},
         {transfer(0, 1, 9000, 0), transfer(1, 0, 0, 0)});
  expect_mismatch(world, "exchange of 'h' (9,000 elements of fp32)", "broadcast of 'h' (9,000 elements of fp32)",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Transfer one = transfer(0, 1, 9000, 0);
                    const Segment segment{nullptr, b.data(), 9000};
                    if (odd)
                      group.broadcast({&segment, 1}, DType::F32, 0, own, "h").wait();
                    else
                      group.exchange({&one, 1}, DType::F32, own, "h").wait();
                  });
}

void misuse(Communicator world) {
  Stream stream = Stream::inline_stream();
  std::vector<float> data(10000 * static_cast<size_t>(world.size()));
  const Segment negative{data.data(), data.data() + 5000, -1}, null{nullptr, data.data(), 4}, good{data.data(), data.data() + 1, 4};
  EXPECT_THROW(world.all_gather({&negative, 1}, DType::F32, stream, "x"), ProtocolError);
  EXPECT_THROW(world.all_gather({&null, 1}, DType::F32, stream, "x"), ProtocolError);
  EXPECT_THROW(world.all_reduce({&good, 1}, DType::F32, ReduceOp::Sum, stream, "overlapping by less than all"), ProtocolError);
  EXPECT_THROW(world.broadcast({&good, 1}, DType::F32, world.size(), stream, "x"), ProtocolError);
  EXPECT_THROW(world.broadcast({&good, 1}, DType::F32, -1, stream, "x"), ProtocolError);
  EXPECT_THROW(world.reduce_scatter({&good, 1}, DType::F32, DType::BF16, false, stream, "x"), ProtocolError);
  world.barrier(stream, "nothing was started").wait();

  const int me = world.rank();
  float* at = data.data();
  const auto refused = [&](std::initializer_list<Transfer> transfers, const std::string& why) {
    std::string error;
    try {
      world.exchange(transfers, DType::F32, stream, "x");
    } catch (const ProtocolError& failure) {
      error = failure.what();
    }
    EXPECT_NE(error.find(why), std::string::npos) << error;
  };
  refused({{me, world.size(), at, at + 10, 4}},
          fmt::format("4 elements from rank {} to rank {}, but the group has ranks 0 to", me, world.size()));
  refused({{-1, me, at, at + 10, 4}}, "4 elements from rank -1 to");
  refused({{me, me, at, at + 10, -4}}, "a count below zero (-4 elements");
  refused({{me, me, nullptr, at + 10, 4}}, "a null operand");
  refused({{me, me, at, nullptr, 4}}, "a null operand");
  refused({{me, me, at, at + 3, 4}}, "may not write what it reads");
  refused({{me, me, at, at + 100, 4}, {me, me, at + 50, at, 2}}, "may not write what it reads");
  refused({{me, me, at, at, 4}, {me, me, at + 50, at + 3, 2}}, "may not write what it reads");
  refused({{me, me, at, at + 10, 4}, {me, me, at, at + 100, 4}, {me, me, at, at + 13, 4}}, "each needs a place of its own");
  world.barrier(stream, "nothing was started").wait();
}

// One rank fails while the others wait for it, some in a group split from the first one.
void abort_reaches_every_group(Communicator world) {
  if (world.size() == 1) return;
  const auto expect_parts = [](const std::string& error, std::initializer_list<std::string> parts) {
    for (const std::string& part : parts) EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  std::string operation = "'split'";  // where messages carry the news, they may arrive before the last of the split's own
  try {
    Communicator other = world.split(0, -world.rank());
    Stream stream = Stream::inline_stream();
    operation = "barrier 'optimizer'";
    if (world.rank() == world.size() - 1) {
      world.abort("the disk is full");
      expect_parts(message_of<RunError>([&] { other.barrier(stream, "after").wait(); }), {"the disk is full"});
      return;
    }
    Communicator& group = world.rank() == 0 ? world : other;
    group.barrier(stream, "optimizer").wait();
    ADD_FAILURE() << "the barrier cannot be complete";
  } catch (const PeerError& error) {
    expect_parts(error.what(), {"the disk is full", operation, fmt::format("rank {}", world.size() - 1)});
  }
}

}  // namespace

std::vector<CommunicatorCase> failure_cases() {
  return {{"Mismatches", mismatches},
          {"ExchangeMismatches", exchange_mismatches},
          {"Misuse", misuse},
          {"AbortReachesEveryGroup", abort_reaches_every_group}};
}

}  // namespace zerostep::test
