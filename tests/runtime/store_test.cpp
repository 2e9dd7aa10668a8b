#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "runtime/state/sharded_state.h"
#include "runtime/state/state_places.h"
#include "sharding/local_ranks.h"
#include "tests/offload/support/recording_locker.h"
#include "tests/runtime/support/file_faults.h"
#include "tests/runtime/support/training_case.h"
#include "tests/support/expect_says.h"

namespace zerostep::testing {
namespace {

TrainingPlan plan_of(int stage, int ranks, int64_t sub_group, DType type) {
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = stage;
  test.config.zero.sub_group_size = sub_group;
  test.config.precision.compute = type;
  test.set_micro_batch(2, ranks);
  const auto model = make_gpt2(test.model);
  return plan_training(test.config, *model, *make_cross_entropy(), ranks);
}

template <typename Body>
std::string protocol_error(const Body& body) {
  try {
    body();
  } catch (const ProtocolError& error) {
    return error.what();
  }
  return "";
}

TEST(Store, ChunksAreAlignedAndApartAndFillTheirBuffers) {
  const TrainingPlan plan = plan_of(3, 2, 1000, DType::BF16);
  run_local_ranks(2, {}, [&](Communicator world) {
    const Store store(plan.any_step().buffers, world, Device::cpu());
    std::map<const std::byte*, int64_t> taken;  // address, bytes
    int64_t total = 0;
    for (const PlannedBuffer& b : plan.any_step().buffers) {
      ASSERT_GT(b.num_chunks, 0) << b.name;
      for (int c = 0; c < b.num_chunks; ++c) {
        const std::byte* at = store.view({b.id.kind, b.id.index, c});
        EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 64, 0u) << b.name << c;
        const int64_t bytes = c + 1 < b.num_chunks ? b.chunk_bytes : b.bytes - c * b.chunk_bytes;
        EXPECT_GT(bytes, 0) << b.name;
        EXPECT_LE(bytes, b.chunk_bytes) << b.name;
        EXPECT_TRUE(taken.emplace(at, bytes).second) << b.name << c;
        total += bytes;
      }
    }
    const std::byte* end = nullptr;
    for (const auto& [at, bytes] : taken) {
      EXPECT_TRUE(end == nullptr || end <= at);
      end = at + bytes;
    }
    EXPECT_EQ(total, plan.any_step().device_arena_bytes());
    EXPECT_EQ(store.arena_bytes(), plan.any_step().device_arena_bytes());
  });
}

TEST(Store, MisuseNamesTheBuffer) {
  const TrainingPlan plan = plan_of(1, 1, 1000, DType::F32);
  run_local_ranks(1, {}, [&](Communicator world) {
    Store store(plan.any_step().buffers, world, Device::cpu());
    Stream stream = Stream::inline_stream();
    const PlannedBuffer* state = nullptr;
    for (const PlannedBuffer& b : plan.any_step().buffers)
      if (b.id.kind == BufferKind::UpdateState && b.num_chunks > 1) state = &b;
    ASSERT_NE(state, nullptr);
    const auto expect_named = [&](const std::string& error, const std::string& what) {
      EXPECT_NE(error.find(what), std::string::npos) << error;
    };
    expect_named(protocol_error([&] { store.view({BufferKind::Message}); }), "view of 16-bit message 0, which the plan does not have");
    expect_named(protocol_error([&] { store.fetch({BufferKind::Gradients, 1000}, stream); }), "fetch of gradients 1000");
    expect_named(protocol_error([&] {
                   store.view({state->id.kind, state->id.index, state->num_chunks});
                 }),
                 "of " + state->name + ", which has " + std::to_string(state->num_chunks));
    const Buffer first{state->id.kind, state->id.index, 0}, second{state->id.kind, state->id.index, 1};
    store.fetch(first, stream).wait();
    store.fetch(first, stream).wait();
    store.release(first, false, stream);
    store.release(first, true, stream);
    expect_named(protocol_error([&] { store.release(first, true, stream); }), "chunk 0 of " + state->name + ", which was not fetched");
    expect_named(protocol_error([&] { store.release(second, true, stream); }), "chunk 1 of " + state->name + ", which was not fetched");
    std::vector<PlannedBuffer> twice = plan.any_step().buffers;
    twice.push_back(twice.front());
    expect_named(protocol_error([&] { Store(twice, world, Device::cpu()); }), twice.front().name);
  });
}

TrainingPlan plan_in(Tier parameters, int ranks) {
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = 3;
  test.config.zero.offload_param.tier = parameters;
  test.config.zero.offload_optimizer.tier = Tier::Host;
  test.set_micro_batch(2, ranks);
  return plan_training(test.config, *make_gpt2(test.model), *make_cross_entropy(), ranks);
}

// What ranks share has small pages.
TEST(Store, FilesAreReadIntoMemoryThatRanksDoNotShare) {
  int staging = 0;
  for (const PlannedBuffer& b : plan_in(Tier::File, 2).any_step().buffers) {
    if (b.id.kind != BufferKind::StagingSlot) continue;
    ++staging;
    EXPECT_FALSE(b.communicated) << b.name;
  }
  EXPECT_GT(staging, 0);
}

// What ranks share to gather from, too.
TEST(Store, LocksAllMemoryOfTheHostOrNone) {
  const TrainingPlan plan = plan_in(Tier::Host, 2);
  for (const bool pins : {true, false})
    run_local_ranks(2, {}, [&](Communicator world) {
      const auto locker = std::make_shared<RecordingLocker>();
      TierOptions options{{.pin_memory = pins, .locker = locker}, {}, {}};
      {
        const Store store(plan.any_step().buffers, world, Device::cpu(), options);
        int64_t shared = 0;
        for (const PlannedBuffer& b : plan.any_step().buffers) shared += b.tier == Tier::Host && b.communicated ? b.bytes : 0;
        EXPECT_GT(shared, 0);
        EXPECT_EQ(locker->num_bytes(), pins ? store.arena_bytes(Tier::Host) : 0);
      }
      EXPECT_EQ(locker->num_bytes(), 0);
    });
}

// Both arenas are made before anything is said: of all memory of the host, once.
TEST(Store, SaysOnceHowMuchOfTheHostsMemoryIsLocked) {
  const TrainingPlan plan = plan_in(Tier::Host, 2);
  const int64_t host = nth(plan.any_step().arena_bytes, Tier::Host);
  for (const bool is_limited : {true, false})
    run_local_ranks(2, {}, [&](Communicator world) {
      std::vector<std::string> warnings;
      TierOptions options{{.locker = std::make_shared<RecordingLocker>(1000, is_limited ? 4096 : host),
                           .warn = [&](const std::string& text) { warnings.push_back(text); }},
                          {},
                          {}};
      const Store store(plan.any_step().buffers, world, Device::cpu(), options);
      ASSERT_EQ(warnings.size(), is_limited ? 1u : 0u);
      if (is_limited) {
        EXPECT_SAYS(warnings[0], fmt::format("4.00 KiB of a rank's {} of host memory are pinned", human_bytes(host)));
      }
    });
}

// Inputs that wait for recomputation on the host lie end to end in memory that is taken once, and so do the slots that they come back into.
TEST(Store, CheckpointsOfActivationsLieEndToEnd) {
  TrainingCase test = TrainingCase::tiny();
  test.model.n_layer = 6;
  test.config.number_checkpoints = -1;
  test.config.cpu_checkpointing = true;
  test.set_micro_batch(2, 1);
  const auto model = make_gpt2(test.model);
  const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), 1);
  run_local_ranks(1, {}, [&](Communicator world) {
    const Store store(plan.any_step().buffers, world, Device::cpu());
    const std::byte* end = nullptr;
    int inputs = 0, slots = 0;
    for (const PlannedBuffer& b : plan.any_step().buffers) {
      if (b.id.kind == BufferKind::CheckpointSlot) {
        for (; slots + 1 < b.num_chunks; ++slots)
          EXPECT_EQ(store.view({b.id.kind, 0, slots + 1}), store.view({b.id.kind, 0, slots}) + b.chunk_bytes);
      }
      if (b.id.kind != BufferKind::Checkpoint) continue;
      EXPECT_EQ(b.tier, Tier::Host);
      EXPECT_TRUE(end == nullptr || end == store.view(b.id)) << b.name;
      end = store.view(b.id) + b.bytes;
      ++inputs;
    }
    EXPECT_EQ(inputs, 5);
    EXPECT_EQ(slots, 1);
  });
}

// Else a read that nobody could wait for would write into memory that is another's by then.
TEST(Store, KeepsMemoryAndFilesOfAnAbandonedRead) {
  const TrainingPlan plan = plan_in(Tier::File, 1);
  const TierFolder folder;
  const auto num_open = [] {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  for (const bool is_lost : {false, true})
    run_local_ranks(1, {}, [&](Communicator world) {
      const auto locker = std::make_shared<RecordingLocker>();
      TierOptions options{{.locker = locker}, {}, {}};
      options.parameters.folders = {folder.path};
      options.parameters.aio.stall_seconds = 0.1;
      options.parameters.aio.make_queue = faulty_queues(QueueKind::Threads, [&](Faults& f) { f.num_lost_after = is_lost ? 0 : -1; });
      const auto before = num_open();
      {
        Store store(plan.any_step().buffers, world, Device::cpu(), options);
        Stream lane = Stream::inline_stream();
        int group = 0;
        while (!store.is_in_file({BufferKind::Parameters, group})) ++group;
        EXPECT_EQ(store.load({BufferKind::Parameters, group}, lane).failed(), is_lost);
      }
      EXPECT_EQ(num_open() - before, is_lost ? 1 : 0);
      EXPECT_EQ(locker->num_bytes() > 0, is_lost);
    });
}

// Each element of each array on one rank, where no other array is, in masters where there are any.
TEST(StatePlaces, HoldEveryElementOnceWhateverTheChunks) {
  for (const int stage : {0, 1, 2, 3})
    for (const int ranks : {1, 2, 4})
      for (const int64_t sub_group : {int64_t{100}, int64_t{1000}, int64_t{1} << 40})
        for (const DType type : {DType::F32, DType::BF16}) {
          const TrainingPlan plan = plan_of(stage, ranks, sub_group, type);
          std::map<std::pair<std::string, int>, std::vector<int>> seen;
          for (int rank = 0; rank < ranks; ++rank) {
            std::map<Buffer, std::set<std::pair<int64_t, int64_t>>> taken;
            for (const auto& [piece, chunk, offset] : state_places(plan.layout, plan.any_step(), rank, Elements::Owned)) {
              std::vector<int>& count = seen[{piece.parameter->name, piece.array}];
              count.resize(static_cast<size_t>(piece.parameter->num_elements()));
              for (int64_t i = piece.begin; i < piece.begin + piece.count; ++i) ++count[static_cast<size_t>(i)];
              const bool in_state = chunk.kind == BufferKind::UpdateState;
              EXPECT_EQ(in_state, piece.array != StatePiece::kValues || (type == DType::BF16 && piece.parameter->shape.size() > 1));
              EXPECT_EQ(piece.type, DType::F32);
              int64_t bytes = 0;
              for (const PlannedBuffer& b : plan.any_step().buffers)
                if (b.id.kind == chunk.kind && b.id.index == chunk.index)
                  bytes = chunk.chunk + 1 < b.num_chunks ? b.chunk_bytes : b.bytes - chunk.chunk * b.chunk_bytes;
              EXPECT_LE(offset + 4 * piece.count, bytes);
              taken[chunk].insert({offset, offset + 4 * piece.count});
            }
            for (const auto& [chunk, ranges] : taken) {
              int64_t end = 0;
              for (const auto& [from, to] : ranges) {
                EXPECT_LE(end, from);
                end = to;
              }
            }
          }
          size_t arrays = 0;
          for (const UnitInfo& unit : plan.layout.units) arrays += 3 * unit.parameters.size();
          EXPECT_EQ(seen.size(), arrays);
          for (const auto& [key, count] : seen)
            EXPECT_EQ(std::count(count.begin(), count.end(), 1), std::ssize(count))
                << key.first << " " << key.second << " stage " << stage << " ranks " << ranks << " sub_group " << sub_group;
        }
}

}  // namespace
}  // namespace zerostep::testing
