#include <algorithm>

#include "base/cuda/elements.cuh"
#include "base/cuda/launch.cuh"
#include "models/cuda/table_rows.h"

namespace zerostep::cuda {
namespace {

// Rows whose sums one thread makes, of a column. A run of equal indices that crosses the ends of segments has a sum in each of them: the
// segment's first run in `heads`, its last one in `tails`, both [segments, columns].
constexpr int64_t kSegment = 32;

int64_t num_segments(int64_t count) { return (count + kSegment - 1) / kSegment; }

template <class Rows, class Table>
struct SegmentsBody {
  const typename Rows::T* rows;
  int64_t count, columns;
  const int64_t *sorted, *order;
  typename Table::T* table;
  float *heads, *tails;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t segments = (count + kSegment - 1) / kSegment;
    for (uint64_t place = index.thread; place < static_cast<uint64_t>(segments * columns); place += index.num_threads) {
      const int64_t segment = static_cast<int64_t>(place) / columns, column = static_cast<int64_t>(place) % columns;
      const int64_t begin = segment * kSegment, end = begin + kSegment < count ? begin + kSegment : count;
      bool is_head = begin > 0 && sorted[begin - 1] == sorted[begin];
      int64_t run = sorted[begin];
      float sum = value(begin, column);
      for (int64_t i = begin + 1; i < end; ++i) {
        const int64_t next = sorted[i];
        const float x = value(i, column);
        if (next == run) {
          sum = ieee_add(sum, x);
          continue;
        }
        put(run, column, segment, is_head, false, sum);
        is_head = false;
        run = next;
        sum = x;
      }
      put(run, column, segment, is_head, end < count && sorted[end] == run, sum);
    }
  }

 private:
  ZEROSTEP_HOST_DEVICE float value(int64_t i, int64_t column) const { return Rows::value(rows[order[i] * columns + column]); }
  ZEROSTEP_HOST_DEVICE void put(int64_t run, int64_t column, int64_t segment, bool is_head, bool is_tail, float sum) const {
    if (is_head)
      heads[segment * columns + column] = sum;
    else if (is_tail)
      tails[segment * columns + column] = sum;
    else
      table[run * columns + column] = Table::rounded(ieee_add(Table::value(table[run * columns + column]), sum));
  }
};

// Adds up the runs that begin in a segment and go on behind its end.
template <class Table>
struct LongRunsBody {
  int64_t count, columns;
  const int64_t* sorted;
  typename Table::T* table;
  const float *heads, *tails;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t segments = (count + kSegment - 1) / kSegment;
    for (uint64_t place = index.thread; place < static_cast<uint64_t>((segments - 1) * columns); place += index.num_threads) {
      const int64_t segment = static_cast<int64_t>(place) / columns, column = static_cast<int64_t>(place) % columns;
      const int64_t begin = segment * kSegment, end = begin + kSegment, run = sorted[end - 1];
      const bool begins_before = begin > 0 && sorted[begin - 1] == run;  // it fills the segment
      if (sorted[end] != run || begins_before) continue;
      float sum = tails[segment * columns + column];
      for (int64_t s = segment + 1; s < segments && sorted[s * kSegment] == run && sorted[s * kSegment - 1] == run; ++s)
        sum = ieee_add(sum, heads[s * columns + column]);
      table[run * columns + column] = Table::rounded(ieee_add(Table::value(table[run * columns + column]), sum));
    }
  }
};

template <class Rows, class Table>
cudaError_t add_as(const KernelQueue& queue, const TableRows& r, float* scratch) {
  const int64_t segments = num_segments(r.count);
  auto* const table = static_cast<typename Table::T*>(r.table);
  float *const heads = scratch, *const tails = scratch + segments * r.columns;
  const cudaError_t error = launch_threads(
      queue, segments * r.columns,
      SegmentsBody<Rows, Table>{static_cast<const typename Rows::T*>(r.rows), r.count, r.columns, r.sorted, r.order, table, heads, tails});
  if (error != cudaSuccess) return error;
  return launch_threads(queue, (segments - 1) * r.columns, LongRunsBody<Table>{r.count, r.columns, r.sorted, table, heads, tails});
}

}  // namespace

int64_t table_scratch_elements(int64_t count, int64_t columns) { return 2 * num_segments(count) * columns; }

cudaError_t add_table_rows(const KernelQueue& queue, const TableRows& r, float* scratch) {
  if (r.rows_type == DType::F32) return add_as<AsF32, AsF32>(queue, r, scratch);
  if (r.rows_type == DType::BF16)
    return r.table_type == DType::F32 ? add_as<AsBf16, AsF32>(queue, r, scratch) : add_as<AsBf16, AsBf16>(queue, r, scratch);
  return r.table_type == DType::F32 ? add_as<AsF16, AsF32>(queue, r, scratch) : add_as<AsF16, AsF16>(queue, r, scratch);
}

}  // namespace zerostep::cuda
