#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sharding/communicator.h"
#include "sharding/mpi_session.h"

namespace zerostep {

// Thrown where everything that had to be said is said: end with this status.
struct Exit {
  int status;
};

constexpr int kDone = 0, kFailed = 1, kWrongInput = 2;

// The processes of this program that mpirun has started together, or one alone. Says errors once, whatever the number of ranks.
class Job {
 public:
  Job(int* argc, char*** argv);
  ~Job();
  int rank() const { return session_.rank(); }
  int size() const { return session_.size(); }
  int local_rank() const { return session_.local_rank(); }
  int local_size() const { return session_.local_size(); }
  int first_of_host() const { return session_.first_of_host(); }
  int cores() const { return session_.cores(); }
  double core_share() const { return session_.core_share(); }
  bool speaks() const { return rank() == 0; }

  // Collective. Runs `prepare` on every rank; where it throws on any, the first of these ranks says why and every rank throws Exit.
  void together(const char* what, const std::function<void()>& prepare);
  // Collective: every rank's text, in rank order.
  std::vector<std::string> gather(const char* what, const std::string& text);
  // Collective. An InputError on every rank when ranks have different texts; `describe` says of rank 0's and another's.
  void require_equal(const char* what, const std::string& text,
                     const std::function<std::string(const std::string& first, const std::string& other, int rank)>& describe);

  // Collective. Rank 0's text.
  std::string share(const char* what, const std::string& text);

  // The ranks as they train; waits of its operations are bounded by `timeout_seconds`. Collective.
  Communicator& start(double timeout_seconds);
  Communicator& world() { return *world_; }

  // Says what went wrong on some rank during the run, once in the job, and gives the exit status. Never hangs: a rank that cannot end
  // ends the job by force. Where all ranks live, `settle` is called on each once that is said, and has so long; no rank ends before the
  // others are through with it.
  int failed(const std::exception& error, const std::function<void()>& settle = {}, double settle_seconds = 0);

 private:
  MpiSession session_;
  std::unique_ptr<Communicator> start_up_, world_, last_words_;
};

// One paragraph to stderr, with "zerostep: " before it.
void say_error(const std::string& text);
// The status that an error means.
int status_of(const std::exception& error);

}  // namespace zerostep
