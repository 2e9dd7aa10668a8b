// Collectives between ranks of one host against what the memory gives. By hand, on an otherwise idle machine:
//   mpirun --oversubscribe --bind-to none -np 2 build/tests/communicator_bench [--rounds 25] [--path shared|messages] [--mib 1 64]
//   mpirun --oversubscribe --bind-to none -np 4 build/tests/communicator_bench
// Every figure is GB/s a rank as nccl-tests count them (algorithm bandwidth): the bytes of the full buffer, which every rank has after an
// all-gather and before a reduce-scatter, over the time from the first rank's start to the last one's end; the median of rounds taken in
// turn. "copy" is memcpy of as many bytes by all ranks at once, from private memory to private memory; "past cache" is the same with
// non-temporal stores. "Open MPI" is MPI_Allgather and MPI_Reduce_scatter_block on the same data (for an exchange of every pair, too).

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sharding/comm/mpi_state.h"
#include "sharding/comm/private_buffer.h"
#include "sharding/comm/reduce_kernels.h"
#include "sharding/mpi_session.h"

namespace zerostep {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Options {
  int rounds = 25;
  MpiPath path = MpiPath::Auto;
  std::vector<int64_t> mib = {1, 64};
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--rounds" && i + 1 < argc) {
      options.rounds = std::stoi(argv[++i]);
    } else if (word == "--path" && i + 1 < argc) {
      options.path = std::string(argv[++i]) == "messages" ? MpiPath::Plain : MpiPath::Auto;
    } else if (word == "--mib") {
      options.mib.clear();
      while (i + 1 < argc && argv[i + 1][0] != '-') options.mib.push_back(std::stoll(argv[++i]));
    } else {
      fail_input("'{}' is not an option; see the head of communicator_bench.cpp", word);
    }
  }
  return options;
}

// The times of several ways to move the same bytes, round by round in turn.
class Race {
 public:
  Race(Communicator world, int rounds) : world_(std::move(world)), rounds_(rounds) {}
  void add(const std::string& name, std::function<void()> run) { ways_.emplace_back(name, std::move(run)); }

  // Median seconds, by name.
  std::map<std::string, double> run(int repeats) {
    std::map<std::string, std::vector<double>> seconds;
    Stream stream = Stream::inline_stream();
    for (int round = -1; round < rounds_; ++round) {  // the first one warms up
      for (const auto& [name, body] : ways_) {
        world_.barrier(stream, "start").wait();
        const double start = now();
        for (int i = 0; i < repeats; ++i) body();
        double span[2] = {-start, now()};  // from the first rank's start to the last one's end: the clock is the host's
        world_.all_reduce_scalars(span, ReduceOp::Max, "time");
        if (round >= 0) seconds[name].push_back((span[0] + span[1]) / repeats);
      }
    }
    std::map<std::string, double> medians;
    for (auto& [name, times] : seconds) {
      std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
      medians[name] = times[times.size() / 2];
    }
    return medians;
  }

 private:
  Communicator world_;
  int rounds_;
  std::vector<std::pair<std::string, std::function<void()>>> ways_;
};

void print_row(Communicator& world, const std::string& what, int64_t mib, double bytes, std::map<std::string, double> seconds) {
  if (world.rank() != 0) return;
  const auto rate = [&](const char* name) { return bytes / seconds[name] * 1e-9; };
  fmt::print("{:15} {:5} MiB {:9.2f} {:9.2f} {:7.2f} x {:9.2f} {:10.2f} {:7.1f} x\n", what, mib, rate("ours"), rate("copy"),
             rate("ours") / rate("copy"), rate("past cache"), rate("Open MPI"), rate("ours") / rate("Open MPI"));
  std::fflush(stdout);
}

void bench_size(Communicator& world, const Options& options, int64_t mib) {
  const auto ranks = static_cast<int64_t>(world.size());
  const int64_t count = (mib << 18) / ranks;  // floats that each rank owns
  const auto bytes = static_cast<size_t>(count) * sizeof(float), full_bytes = bytes * static_cast<size_t>(ranks);
  auto shard_memory = world.allocate(bytes, "shard"), full_memory = world.allocate(full_bytes, "full");
  PrivateBuffer slot_memory(full_bytes), from_memory(full_bytes), to_memory(full_bytes);
  auto* shard = static_cast<float*>(shard_memory->data());
  auto* full = static_cast<float*>(full_memory->data());
  auto* slot = static_cast<float*>(slot_memory.data());
  std::fill(shard, shard + count, static_cast<float>(world.rank()));
  std::fill(full, full + count * ranks, 1.0f);
  std::memset(slot, 1, full_bytes);
  std::memset(from_memory.data(), 1, full_bytes);
  std::memset(to_memory.data(), 1, full_bytes);
  const auto copies = [&](Race& race) {
    race.add("copy", [&] { std::memcpy(to_memory.data(), from_memory.data(), full_bytes); });
    race.add("past cache", [&] { copy_bytes(to_memory.data(), from_memory.data(), full_bytes, true); });
  };
  Stream stream = Stream::inline_stream();
  const int repeats = static_cast<int>(std::max<int64_t>(1, 64 / mib));

  // The own shard has its place in the slot already, as in training: what moves is the other ranks'.
  std::memcpy(slot + world.rank() * count, shard, bytes);
  Race gather(world, options.rounds);
  std::memcpy(full + world.rank() * count, shard, bytes);
  const Segment gather_segment{full + world.rank() * count, full, count};
  gather.add("ours", [&] { world.all_gather({&gather_segment, 1}, DType::F32, stream, "all-gather").wait(); });
  copies(gather);
  gather.add("Open MPI",
             [&] { MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, slot, static_cast<int>(count), MPI_FLOAT, MPI_COMM_WORLD); });
  print_row(world, "all-gather", mib, static_cast<double>(full_bytes), gather.run(repeats));

  // The same by transfers between pairs of ranks: from shared memory, and from memory that only its rank can read.
  const auto exchange = [&](const std::string& what, const float* source) {
    std::vector<Transfer> transfers;
    for (int step = 1; step < world.size(); ++step)
      for (int from = 0; from < world.size(); ++from)
        transfers.push_back({from, (from + step) % world.size(), source, slot + from * count, count});
    Race race(world, options.rounds);
    race.add("ours", [&] { world.exchange(transfers, DType::F32, stream, "exchange").wait(); });
    copies(race);
    race.add("Open MPI",
             [&] { MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, slot, static_cast<int>(count), MPI_FLOAT, MPI_COMM_WORLD); });
    print_row(world, what, mib, static_cast<double>(full_bytes), race.run(repeats));
  };
  exchange("exchange", shard);
  exchange("  from private", static_cast<const float*>(from_memory.data()));

  const Segment out_segment{shard, slot, count};
  Race out(world, options.rounds);
  out.add("ours", [&] { world.all_gather({&out_segment, 1}, DType::F32, stream, "all-gather with own").wait(); });
  copies(out);
  out.add("Open MPI",
          [&] { MPI_Allgather(shard, static_cast<int>(count), MPI_FLOAT, slot, static_cast<int>(count), MPI_FLOAT, MPI_COMM_WORLD); });
  print_row(world, "  with own", mib, static_cast<double>(full_bytes), out.run(repeats));

  Race scatter(world, options.rounds);
  const Segment scatter_segment{full, shard, count};
  scatter.add("ours", [&] { world.reduce_scatter({&scatter_segment, 1}, DType::F32, DType::F32, false, stream, "reduce-scatter").wait(); });
  copies(scatter);
  scatter.add("Open MPI", [&] { MPI_Reduce_scatter_block(full, shard, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); });
  print_row(world, "reduce-scatter", mib, static_cast<double>(full_bytes), scatter.run(repeats));
}

void bench_handshake(Communicator& world) {
  Stream stream = Stream::inline_stream();
  const int repeats = 2000;
  double values[1] = {1};
  world.barrier(stream, "start").wait();
  const double start = now();
  for (int i = 0; i < repeats; ++i) world.barrier(stream, "barrier").wait();
  const double barrier = now() - start;
  for (int i = 0; i < repeats; ++i) world.all_reduce_scalars(values, ReduceOp::Max, "scalar");
  const double scalars = now() - start - barrier;
  for (int i = 0; i < repeats; ++i) MPI_Barrier(MPI_COMM_WORLD);
  const double mpi = now() - start - barrier - scalars;
  if (world.rank() == 0)
    fmt::print("barrier {:.2f} us, one scalar all-reduced {:.2f} us, MPI_Barrier {:.2f} us\n", barrier / repeats * 1e6,
               scalars / repeats * 1e6, mpi / repeats * 1e6);
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  using namespace zerostep;
  try {
    MpiSession session(&argc, &argv);
    const Options options = parse(argc, argv);
    if (!session.state()->started) fail_input("start this program with mpirun -np 2 (or 4)");
    Communicator world = make_mpi_communicator(session, {.timeout_seconds = 60}, options.path);
    if (world.rank() == 0)
      fmt::print("{} ranks, {}\n{:15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}\n", world.size(), world.backend(), "GB/s a rank", "a rank",
                 "ours", "copy", "ratio", "past cache", "Open MPI", "ratio");
    for (const int64_t mib : options.mib) bench_size(world, options, mib);
    bench_handshake(world);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
