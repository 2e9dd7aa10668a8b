#pragma once
#include <algorithm>
#include <cstdint>

#include "offload/cuda/put.cuh"

namespace zerostep::cuda {

// Sums over the jobs of a term, in fp64 and in an order that only the number of jobs sets. Lane l sums jobs l, l + lanes, ... of each of
// the term's repeats; then 64 partial sums at a time are added in their order until one is left, by launches that follow each other.
//
// A term has kSums, num_jobs(), num_repeats(), and add(job, repeat, sums), which adds what it has of a job. Row kSums * repeat + s of the
// partial sums is that of sum s.
template <class Term>
struct LanesBody {
  Term term;
  double* partial;
  int64_t lanes;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t num_jobs = term.num_jobs();
    for_jobs(index, lanes * term.num_repeats(), [&](int64_t place) {
      const int64_t repeat = place / lanes, lane = place % lanes;
      double sums[Term::kSums] = {};
      for (int64_t job = lane; job < num_jobs; job += lanes) term.add(job, static_cast<int>(repeat), sums);
      for (int s = 0; s < Term::kSums; ++s) partial[(repeat * Term::kSums + s) * lanes + lane] = sums[s];
    });
  }
};

// What the sums of several rows are added to: `sums`, or `count`, where there is one.
struct Totals {
  double* sums = nullptr;
  int64_t* count = nullptr;
};
// Adds up `rows` rows of `length` partial sums in queue.sums, and returns where the sums lie if there are no totals to add them to.
const double* fold(Queue& queue, int64_t rows, int64_t length, const Totals& totals);

inline int64_t lanes_of(int64_t num_jobs, int64_t rows) { return std::min({num_jobs, kMaxLanes, kScratchSums / rows}); }

template <class Term>
const double* add_sums(Queue& queue, const Term& term, const Totals& totals) {
  const int64_t rows = Term::kSums * term.num_repeats(), lanes = lanes_of(term.num_jobs(), rows);
  if (lanes == 0) return nullptr;
  put(queue, lanes * term.num_repeats(), LanesBody<Term>{term, queue.sums, lanes});
  return fold(queue, rows, lanes, totals);
}

}  // namespace zerostep::cuda
