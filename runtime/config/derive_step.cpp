// What the block "step" asks for: batches and groups of the queries, and values that must agree.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/config/deriver.h"

namespace zerostep::schema {

void Deriver::check_batch(std::string_view path, int64_t samples, int64_t ranks) {
  const int64_t micro = integer_or("train_micro_batch_size_per_gpu", 1);
  if (samples % (micro * ranks) != 0)
    findings_.error(path, fmt::format("is {}, which does not divide by train_micro_batch_size_per_gpu {} x {} rank{} = {}", samples, micro,
                                      ranks, ranks == 1 ? "" : "s", micro * ranks));
}

void Deriver::queries() {
  if (mode() == "fo" || !v_.has("train_batch_size")) return;
  const int64_t groups = v_.integer("step.direction_parallel"), queries = v_.integer("step.queries");
  const bool central = v_.text("step.estimator") == "central";
  if (world_ % groups != 0)
    return findings_.error("step.direction_parallel",
                           fmt::format("is {}, which does not divide the {} ranks: every group needs as many", groups, world_));
  if (queries % groups != 0 && !(central && groups == 2 * queries))
    findings_.error("step.direction_parallel", fmt::format("is {}, which does not divide step.queries {}{}", groups, queries,
                                                           central ? fmt::format("; {} groups take one sign each", 2 * queries) : ""));
  const int64_t batch = v_.integer("train_batch_size");
  // In mode zo train_batch_size has been checked for the same ranks.
  if (mode() != "zo" || v_.has("step.query_batch_size"))
    check_batch("step.query_batch_size", integer_or("step.query_batch_size", batch), world_ / groups);
  derived("step.query_batch_size", batch);
  if (mode() != "zo") {
    if (v_.has("step.bp_batch_size")) check_batch("step.bp_batch_size", v_.integer("step.bp_batch_size"), world_);
    derived("step.bp_batch_size", batch);
  }
  check_values(queries, central);
  if (!v_.has("data.sequence_length")) return;
  derived("step.query_sequence_length", v_.integer("data.sequence_length"));
  const int64_t length = v_.integer("step.query_sequence_length");
  if (sizes_ && length > sizes_->longest) findings_.error("step.query_sequence_length", more_than_positions(length));
}

void Deriver::check_values(int64_t queries, bool central) {
  if (mode() != "zo" && v_.text("step.objective") == "accuracy")
    findings_.error("step.objective", "\"accuracy\" has no gradient: it works with step.mode \"zo\" alone");
  const std::string transform = v_.text("step.scalar_transform");
  if ((transform == "normalise" || transform == "clip") && queries < 2)
    findings_.error("step.scalar_transform", fmt::format("\"{}\" needs at least 2 step.queries: one scalar has no deviation", transform));
  if (transform == "leave_one_out" && (queries < 2 || central))
    findings_.error("step.scalar_transform", "\"leave_one_out\" is a baseline for step.estimator \"forward\" with at least 2 step.queries");
  if (v_.text("step.perturbation") == "low_rank") check_rank();
  if (v_.text("step.master_weights") == "none") {
    if (mode() != "zo") findings_.error("step.master_weights", "\"none\" works with step.mode \"zo\" alone: backprop needs fp32 masters");
    if (!v_.boolean("bf16.enabled") && !v_.boolean("fp16.enabled"))
      findings_.error("step.master_weights", "\"none\" is for 16-bit weights: enable bf16 or fp16");
  }
  if (mode() == "instruct" && v_.text("step.instruct.kind") == "energy" && v_.number("step.instruct.noise_scale") == 0 && queries > 1)
    findings_.error("step.instruct.noise_scale", "is 0: all directions of a step would be the same; give noise, or step.queries 1");
  if (mode() == "instruct" && v_.number("step.instruct.cosine") == 0)
    findings_.error("step.instruct.cosine", "is 0: the estimate divides by it; use step.mode \"zo\" for uninstructed directions");
  for (std::string_view value : {"cosine", "noise_scale"}) check_schedule(fmt::format("step.instruct.schedule.{}", value));
  const bool own = v_.text("step.bp_data") == "own", files = !v_.at("data.bp_train").empty();
  if (own && !files) findings_.error("step.bp_data", "\"own\" needs data.bp_train: name its files");
  if (!own && files) findings_.error("data.bp_train", "is given, and step.bp_data is not \"own\"");
}

void Deriver::check_schedule(const std::string& block) {
  std::string missing, given;
  for (std::string_view name : {"start", "end", "threshold", "fall", "increment"}) {
    std::string& list = v_.has(fmt::format("{}.{}", block, name)) ? given : missing;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", name);
  }
  if (given.empty()) return;
  if (!missing.empty()) return findings_.error(block, fmt::format("gives {} and lacks {}: a schedule needs all five", given, missing));
  const double start = v_.number(block + ".start"), end = v_.number(block + ".end"), increment = v_.number(block + ".increment");
  if (block.ends_with("cosine") && start * end == 0) findings_.error(block, "starts or ends at 0: the estimate divides by the cosine");
  if ((end - start) * increment <= 0)
    findings_.error(block + ".increment", fmt::format("is {}, which does not lead from start {} to end {}", increment, start, end));
}

void Deriver::check_rank() {
  if (!sizes_) return;
  const int64_t rank = v_.integer("step.rank");
  const int64_t smallest = sizes_->vocabulary > 0 ? std::min(sizes_->smallest, sizes_->vocabulary) : sizes_->smallest;
  if (rank > smallest)
    findings_.error("step.rank", fmt::format("is {}, more than the smallest matrix has ({}): take at most that", rank, smallest));
}

}  // namespace zerostep::schema
