#include "launch/last_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/signal_name.h"

namespace zerostep {
namespace {

// Collective. Whether every rank has come to write its part of this rank's checkpoint that is under way.
bool every_rank_writes(Job& job, CheckpointWriter& writer) {
  const int64_t step = writer.under_way();
  try {
    const std::vector<std::string> begun = job.gather("checkpoint that is being written", std::to_string(writer.last_begun()));
    return std::all_of(begun.begin(), begun.end(), [&](const std::string& last) { return std::stoll(last) >= step; });
  } catch (const RunError&) {
    return false;
  }
}

}  // namespace

void wait_for_checkpoint(Job& job, const TrainSetup& setup, CheckpointWriter& writer, int signal) {
  const int64_t step = writer.under_way();
  const double seconds = setup.config().run.collective_timeout_seconds;
  const auto say = [&](const std::string& text) {
    if (!job.speaks() || step < 0) return;
    print_err("warning: {}\n", text);
    try {
      OutputFile(setup.folder.file("log.txt"), OutputFile::Mode::Append).write(fmt::format("warning: {}\n", text));
    } catch (const RunError&) {  // a full disk may be why the checkpoint takes so long
    }
  };
  say(
      fmt::format("a second signal, {}: the run ends as soon as checkpoint {} is written, in {:g} s at the latest "
                  "(run.collective_timeout_seconds); another one ends it at once",
                  name_of_signal(signal), checkpoint_name(step), seconds));
  if (!writer.wait_until_complete(seconds)) say(fmt::format("checkpoint {} is not complete after {:g} s", checkpoint_name(step), seconds));
}

void complete_checkpoint(Job& job, TrainSetup& setup, CheckpointWriter& writer, double seconds) {
  if (!every_rank_writes(job, writer)) writer.abandon();
  const int64_t step = writer.under_way();
  if (step < 0) return;
  const std::string name = checkpoint_name(step);
  const auto say = [&](const std::string& text) {
    try {
      setup.log.warn(text);
    } catch (const RunError&) {
    }
  };
  say(fmt::format("checkpoint {} is being written: the failed run ends with it, in {:g} s at the latest", name, seconds));
  if (!writer.wait_until_written(seconds)) return say(fmt::format("checkpoint {} is not complete after {:g} s", name, seconds));
  try {
    writer.check();
    say(fmt::format("checkpoint {} is written", name));
  } catch (const RunError& error) {
    say(error.what());
  }
}

}  // namespace zerostep
