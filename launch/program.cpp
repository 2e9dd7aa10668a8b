#include "launch/program.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <exception>

#include "base/blas_workspace.h"
#include "base/console.h"
#include "base/program_name.h"
#include "launch/commands/commands.h"
#include "launch/job.h"
#include "launch/signals.h"
#include "models/error_text.h"
#include "runtime/memory/memory_meter.h"

namespace zerostep {
namespace {

// What the libraries warn of looks like the program's own warnings, and leaves stdout to results.
void send_warnings_to_stderr() {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("zerostep"));
  spdlog::set_pattern("%l: %v");
}

// Rank 0 speaks; a rank speaks only when it alone fails. Errors become exit statuses here, that of the standard output with them.
int run(Job& job, int argc, char** argv) {
  int status = kDone;
  try {
    status = run_command_line(job, argc, argv);
    flush_out();
  } catch (const Exit& exit) {
    return exit.status;
  } catch (const OutputClosed&) {
    return status_without_reader(status);
  } catch (const std::exception& error) {
    if (job.speaks()) say_error(error_text(error));
    return status_of(error);
  }
  return status;
}

}  // namespace

int run_program(int argc, char** argv) {
  open_missing_streams();
  if (argc > 0) set_program_name(argv[0]);
  install_signal_handlers();
  send_warnings_to_stderr();
  install_metered_allocator();
  set_blas_workspace();
  try {
    Job job(&argc, &argv);
    return run(job, argc, argv);
  } catch (const std::exception& error) {
    say_error(error_text(error));
    return status_of(error);
  }
}

}  // namespace zerostep
