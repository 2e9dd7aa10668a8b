#pragma once

namespace zerostep {

// SIGINT and SIGTERM end the process at once (exit status 128 + signal) until a run asks to be told instead; SIGUSR1 is always kept for the
// run.
void install_signal_handlers();
// From now on a first signal only asks to stop after the step; a second SIGINT or SIGTERM ends the process at once.
void defer_signals();
// The signal that asks this rank to stop, 0: none.
int pending_signal();
// What a run that stopped for it exits with: 0 for SIGUSR1, else 128 + signal.
int status_of_signal(int signal);
const char* name_of_signal(int signal);

}  // namespace zerostep
