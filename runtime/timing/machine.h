#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace zerostep {

// What one rank of a machine does in a second while all ranks of its host are at work: measured (`zerostep bench machine`) or described in
// a JSON file (`zerostep plan --machine FILE`). Of all figures bytes are bytes, and seconds are seconds of wall clock.

// Floating-point operations a second of a product of [rows, width] and [width, width] matrices, multiply-adds counting two.
struct GemmRate {
  DType type = DType::F32;
  int64_t rows = 0, width = 0;
  double flops_per_second = 0;
};

// What moves bytes: a transfer takes latency_seconds and its bytes at bytes_per_second. All 0: unknown.
struct Link {
  double latency_seconds = 0, bytes_per_second = 0;
  bool is_known() const { return bytes_per_second > 0; }
  double seconds(double bytes) const { return latency_seconds + bytes / bytes_per_second; }
};

// Attention's products with the softmax between them: each head of each sample takes head_seconds, and its operations at that rate, which
// short samples do not reach. 0: unknown.
struct AttentionRate {
  double flops_per_second = 0, head_seconds = 0;
  double seconds(double flops, double heads) const { return flops / flops_per_second + heads * head_seconds; }
};

// What LibTorch's operations other than products write a second of one type: norms, activations, sums, softmax; in the cache or not.
struct ElementwiseRate {
  DType type = DType::F32;
  double bytes_per_second = 0;
  AttentionRate attention = {}, attention_backward = {};
};

struct Machine {
  std::string name;               // of the processor or the accelerator, for people
  int ranks_per_host = 1;         // that the figures were measured with, or that a described host has
  int threads_per_rank = 1;       // of LibTorch
  bool lanes_share_cores = true;  // a processor: collectives take cores that computation would use; false: an accelerator
  double cores_per_rank = 1;      // where lanes share them
  double measured_seconds = 0;    // that the measurement was given; 0: described
  bool is_unsteady = false;       // something else ran meanwhile: predictions say so, and better figures are not replaced by these

  // Of one rank, from 1e6; 0: unknown. Where host_is_device, device memory is the host's, and both draw on host_bytes.
  int64_t device_bytes = 0, host_bytes = 0, file_bytes = 0;
  bool host_is_device = true;
  int64_t multiprocessors = 0;  // of a GPU, which attention there takes memory by; 0: unknown

  std::vector<GemmRate> gemm;                  // of fp32 at least one
  std::vector<ElementwiseRate> elementwise;    // of each type that gemm has
  double operation_seconds = 0;                // what an operation of LibTorch takes besides its work
  double memory_bytes_per_second = 0;          // of the device: bytes read and written by flat kernels (fills, casts, copies)
  double noise_elements_per_second = 0;        // of the device: normal random numbers made where they are used
  double noise_16bit_elements_per_second = 0;  // ... where both signs' copies in 16 bit are made of them; 0: as fast
  double update_bytes_per_second = 0;          // of AdamW where its state is on the device: bytes read and written
  double host_update_bytes_per_second = 0;     // ... where it is in memory of the host

  Link host_to_device, device_to_host;  // where host_is_device neither copies anything
  Link file_read, file_write;           // of one rank
  // Collectives, by the bytes that a rank receives (as Action::bytes counts them), within a host and between hosts.
  Link gather_in_host, reduce_in_host, gather_across_hosts, reduce_across_hosts;
  double agreement_seconds = 0;  // of a sum of a few numbers over the ranks of a host
};

// Operations a second of such products of any size: between measured sizes a power law of the rows and of the width, beyond them that of
// the nearest. A 16-bit type that the machine does not have counts as the other one, or else as fp32.
double gemm_flops_per_second(const Machine& machine, DType type, double rows, double width);
// Rates of what is no product; types count as above. Attention counts as other products where it has none, and a backward without one of
// its own as a forward.
double elementwise_bytes_per_second(const Machine& machine, DType type);
AttentionRate attention_rate(const Machine& machine, DType type, bool backward);

// A rank's share of so many bytes of memory or of a disk, as a machine has it: 0, unknown, where it is less than a megabyte, and a petabyte
// at most, the bounds of machine files.
int64_t capacity_of(int64_t bytes, int ranks);

// Reads a described or measured machine: JSON with comments (docs/planning.md). InputError names the file and the entry that is missing or
// wrong.
Machine read_machine(const std::string& file);
// Writes it whole, five digits a figure, then renames; RunError names the file.
void write_machine(const std::string& file, const Machine& machine);

// This machine as `zerostep bench machine` has measured it before, with so many ranks and threads, or where it has not with the numbers
// nearest to these, which the result names. Nothing where it was never measured. `device`: what figures of one device are kept under; "":
// the processor. `why_unreadable`, where it is not nullptr: of the first of its files that is damaged or of another version, which count as
// not there; "": none is.
std::optional<Machine> measured_machine(int ranks_per_host, int threads, const std::string& device = "",
                                        std::string* why_unreadable = nullptr);
// What became of figures that were to be kept.
struct Keeping {
  std::string file;                  // that they belong into; "": there is no cache
  std::string why_not;               // "": they are in it
  int num_earlier = 0;               // of those in it: figures that an earlier measurement found faster
  bool replaces_unreadable = false;  // a file that cannot be read as a machine's was there
};
// Keeps what was measured for later calls of measured_machine(), in machines/ of the user's cache. Steady figures that were kept before
// are not replaced by unsteady ones, those with files not by those without, and those of a longer measurement not by those of a shorter one
// that is as steady, unless `replaces_any`. Of two measurements that are as steady and as long each figure but those of
// files is the faster one's: what slows a machine for minutes on end looks steady. Links between hosts are no reason: who plans for several
// hosts names a machine file.
Keeping keep_measured_machine(Machine machine, bool replaces_any = false, const std::string& device = "");

}  // namespace zerostep
