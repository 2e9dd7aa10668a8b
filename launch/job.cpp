#include "launch/job.h"

#include <fmt/format.h>
#define OMPI_SKIP_MPICXX 1  // its C++ bindings do not compile without warnings
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "base/console.h"
#include "base/error.h"
#include "base/nth.h"
#include "models/error_text.h"

namespace zerostep {
namespace {

constexpr double kStartUpSeconds = 600, kLastWordsSeconds = 5, kForceSeconds = 20;

// From now on this process ends within so long, whatever hangs; the last call counts.
void arm_forced_end(double seconds) {
  using Clock = std::chrono::steady_clock;
  static std::atomic<Clock::rep> end{0};
  const auto at = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  if (end.exchange(at.time_since_epoch().count()) != 0) return;
  const auto end_late = [] {
    while (Clock::now().time_since_epoch().count() < end.load()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    int initialised = 0, finalised = 0;
    MPI_Initialized(&initialised);
    MPI_Finalized(&finalised);
    if (initialised != 0 && finalised == 0) MPI_Abort(MPI_COMM_WORLD, kFailed);
    std::_Exit(kFailed);
  };
  try {
    std::thread(end_late).detach();
  } catch (const std::system_error&) {  // no thread is to be had: a signal ends the process, and mpirun the job
    alarm(static_cast<unsigned>(seconds));
  }
}

}  // namespace

void say_error(const std::string& text) {
  std::fflush(stdout);
  print_err("zerostep: {}\n", text);
}

int status_of(const std::exception& error) { return dynamic_cast<const InputError*>(&error) != nullptr ? kWrongInput : kFailed; }

Job::Job(int* argc, char*** argv) : session_(argc, argv) {}
Job::~Job() = default;

std::vector<std::string> Job::gather(const char* what, const std::string& text) {
  if (size() == 1) return {text};
  if (!start_up_) start_up_ = std::make_unique<Communicator>(make_mpi_communicator(session_, {kStartUpSeconds}));
  return start_up_->all_gather_text(text, what);
}

std::string Job::share(const char* what, const std::string& text) { return gather(what, text).front(); }

void Job::together(const char* what, const std::function<void()>& prepare) {
  std::string text;  // status and message
  try {
    communication_wish();  // a wrong value is refused here, by every rank, though a single rank asks for the path only later
    prepare();
  } catch (const std::exception& error) {
    text = fmt::format("{}{}", status_of(error), error_text(error));
  }
  const std::vector<std::string> all = gather(what, text);
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].empty()) continue;
    if (static_cast<int>(r) == rank()) say_error((rank() > 0 ? fmt::format("rank {}: ", rank()) : "") + all[r].substr(1));
    throw Exit{all[r].front() - '0'};
  }
}

void Job::require_equal(const char* what, const std::string& text,
                        const std::function<std::string(const std::string&, const std::string&, int)>& describe) {
  if (size() == 1) return;
  const std::vector<std::string> all = gather(what, text);
  together(what, [&] {
    if (rank() != 0) return;
    for (size_t r = 1; r < all.size(); ++r)
      if (all[r] != all[0]) throw InputError(describe(all[0], all[r], static_cast<int>(r)));
  });
}

Communicator& Job::start(double timeout_seconds) {
  world_ = std::make_unique<Communicator>(make_mpi_communicator(session_, {timeout_seconds}));
  if (size() > 1) last_words_ = std::make_unique<Communicator>(make_mpi_communicator(session_, {kLastWordsSeconds}));
  return *world_;
}

int Job::failed(const std::exception& error, const std::function<void()>& settle, double settle_seconds) {
  const std::string said = error_text(error);
  const std::string own = fmt::format("{}{}", dynamic_cast<const PeerError*>(&error) != nullptr ? 'e' : 'f', said);
  if (size() == 1) {
    say_error(said);
    return kFailed;
  }
  arm_forced_end(kForceSeconds);
  if (world_) world_->abort(said);
  // Ranks that fail for the same reason, or learn of it, meet here and settle who speaks; one that cannot come is not waited for long.
  std::vector<std::string> all(static_cast<size_t>(size()));
  nth(all, rank()) = own;
  bool met = false;
  try {
    if (last_words_) all = last_words_->all_gather_text(own, "last words");
    met = last_words_ != nullptr;
  } catch (const RunError&) {
    // A rank is gone or stuck: who has something of its own to say says it.
    met = false;
  }
  if (!met) {
    if (own.front() == 'f') say_error(said);
    return kFailed;
  }
  int speaker = -1;
  for (int r = size() - 1; r >= 0; --r)
    if (nth(all, r).starts_with('f')) speaker = r;
  const bool speaks_now = speaker == rank() || (speaker < 0 && rank() == 0);
  if (speaks_now) say_error(said);
  if (settle) {
    arm_forced_end(settle_seconds + kForceSeconds);
    settle();
    try {
      gather("end of a failed run", "");
    } catch (const RunError&) {  // a rank has ended all the same: nothing is left to wait for
    }
  }
  if (!speaks_now)
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // mpirun ends the speaker as soon as another rank has ended
  return kFailed;
}

}  // namespace zerostep
