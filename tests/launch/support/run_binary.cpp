#include "tests/launch/support/run_binary.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "launch/program.h"

namespace zerostep::testing {
namespace fs = std::filesystem;
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

std::string content(const fs::path& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

// What programs under test keep for later ones, in a folder that goes when this process ends.
std::string cache_of_this_process() {
  static const ScratchFolder folder;
  return folder.folder().string();
}

std::string text_of_our_own() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * 7919 % 1000) + " of the text that the tests train on\n";
  return text;
}

}  // namespace

std::string program() {
  const char* binary = std::getenv("ZEROSTEP_BINARY");
  if (binary == nullptr) throw std::runtime_error("the environment variable ZEROSTEP_BINARY must name the program under test");
  return binary;
}

// Whether a fork of this process can run the program, which takes a tenth of the time that loading it anew does: alone, and with nothing in
// the environment that libraries read when they are loaded.
static bool suits_this_process(const std::vector<std::string>& command, const How& how) {
  const char* threads = std::getenv("OMP_NUM_THREADS");
  const auto is_read_late = [](const auto& variable) { return variable.first == "XDG_CACHE_HOME" || variable.first == "HOME"; };
  return command.front() == program() && threads != nullptr && std::string(threads) == "1" && how.without.empty() &&
         std::all_of(how.environment.begin(), how.environment.end(), is_read_late);
}

Workplace::Workplace() { write("corpus.txt", text_of_our_own()); }

void Workplace::write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
std::string Workplace::read(const std::string& name) const { return content(path(name)); }

std::string Workplace::config(const std::string& more) const {
  write("config.json", R"({"train_batch_size": 4, "train_micro_batch_size_per_gpu": 1, "seed": 3, "steps_per_print": 2,
  "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32},
  "data": {"train": ")" + path("corpus.txt") +
                           R"(", "sequence_length": 16},
  "run": {"name": "test", "output_dir": ")" +
                           path("runs") + R"(", "steps": 4})" + (more.empty() ? "" : ",\n  " + more) + "}\n");
  return path("config.json");
}

std::vector<std::string> Workplace::command(const std::vector<std::string>& arguments, int ranks) const {
  std::vector<std::string> out;
  if (ranks > 1) out = {"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", std::to_string(ranks)};
  out.push_back(program());
  out.insert(out.end(), arguments.begin(), arguments.end());
  return out;
}

Outcome Workplace::run(const std::vector<std::string>& arguments, const How& how) const {
  return run_command(command(arguments, how.ranks), how);
}
Outcome Workplace::run_command(const std::vector<std::string>& command, const How& how) const {
  How as_well = how;
  if (command.front() == "mpirun") as_well.environment.insert(kNoGrace.begin(), kNoGrace.end());
  return finish(start(command, as_well), how.timeout_seconds);
}

pid_t Workplace::start(const std::vector<std::string>& command, const How& how) const {
  const std::string cache = cache_of_this_process();
  const bool is_loaded = suits_this_process(command, how);
  std::fflush(nullptr);  // what is buffered here is not the program's
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  const auto redirect = [](const std::string& path, int flags, int target) { ::dup2(::open(path.c_str(), flags, 0600), target); };
  redirect("/dev/null", O_RDONLY, STDIN_FILENO);
  redirect(path("stdout"), O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
  redirect(path("stderr"), O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
  ::setenv("OMP_NUM_THREADS", "1", 0);
  ::setenv("OMPI_MCA_orte_tmpdir_base", scratch_.folder().c_str(), 1);
  ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  for (const auto& [name, value] : how.environment) ::setenv(name.c_str(), value.c_str(), 1);
  for (const std::string& name : how.without) ::unsetenv(name.c_str());
  std::vector<char*> argv;
  for (const std::string& a : command) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  if (is_loaded) {
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    const int status = run_program(static_cast<int>(command.size()), argv.data());
    std::fflush(nullptr);
    ::_exit(status);
  }
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

Outcome Workplace::finish(pid_t pid, double timeout_seconds) const {
  Outcome outcome;
  const double begin = now();
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (!outcome.timed_out && now() - begin > timeout_seconds) {
      for (const pid_t child : children_of(pid)) ::kill(child, SIGKILL);
      ::kill(pid, SIGKILL);
      outcome.timed_out = true;
    }
    pause();
  }
  outcome.seconds = now() - begin;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read("stdout");
  outcome.err = read("stderr") + (outcome.timed_out ? "\n(killed after the test's own timeout)\n" : "");
  return outcome;
}

std::vector<std::map<std::string, std::string>> Workplace::metrics(const std::string& run) const {
  std::istringstream lines(read("runs/" + run + "/metrics.csv"));
  std::vector<std::map<std::string, std::string>> rows;
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> cells;
    std::istringstream stream(line + ",");
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    if (names.empty()) {
      names = cells;
      continue;
    }
    if (cells.size() != names.size()) break;  // a row under way
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < names.size(); ++i) row[names[i]] = cells[i];
  }
  return rows;
}

std::vector<double> Workplace::column(const std::string& run, const std::string& name) const {
  std::vector<double> out;
  for (const auto& row : metrics(run))
    if (!row.at(name).empty()) out.push_back(std::stod(row.at(name)));
  return out;
}

bool Workplace::wait_for_rows(const std::string& run, size_t rows, pid_t pid) const {
  for (const double begin = now(); now() - begin < 30; pause()) {
    if (metrics(run).size() >= rows) return true;
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0) return false;
  }
  return false;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> out;
  std::istringstream list(content("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children"));
  for (pid_t child = 0; list >> child;) out.push_back(child);
  return out;
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace zerostep::testing
