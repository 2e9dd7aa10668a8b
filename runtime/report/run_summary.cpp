#include "runtime/report/run_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "base/program_name.h"
#include "runtime/report/csv_monitor.h"
#include "runtime/report/plan_tables.h"
#include "runtime/report/prediction_report.h"
#include "runtime/report/tensorboard.h"

namespace zerostep {
namespace {

constexpr double kFarAbove = 2;  // a measured step over a predicted one, which otherwise lies within a quarter of it

void add_line(std::vector<std::string>& lines, const char* what, const std::string& value) {
  lines.push_back(fmt::format("{:<15}{}", what, value));
}
std::string plural(int64_t n, const char* word) { return fmt::format("{} {}{}", grouped(n), word, n == 1 ? "" : "s"); }

std::string model_text(const Config& config, const ModelLayout& layout) {
  const ModelSizes m = sizes_of(config.model.options);
  const int64_t all = layout.num_elements(), trained = layout.num_elements(true);
  std::string text = fmt::format("{}, {} layers, {} wide, {} heads, {} positions, vocabulary {}: {} parameters ({})", m.family, m.layers,
                                 m.width, m.heads, m.positions, grouped(m.vocabulary), grouped(all), human_count(static_cast<double>(all)));
  return trained < all ? text + fmt::format(", {} trained", grouped(trained)) : text;
}

std::string queries_text(const Config& config, int64_t per_pass) {
  const StepConfig& s = config.step;
  const char* kind = s.perturbation == StepConfig::Perturbation::Gaussian     ? "gaussian"
                     : s.perturbation == StepConfig::Perturbation::Rademacher ? "rademacher"
                                                                              : "low_rank";
  std::string text =
      fmt::format("{}: {} ({}, {} differences, epsilon {:g}), {} a pass; {} of {} samples, {}{} tokens each", s.mode_name,
                  plural(s.queries, "direction"), kind, s.estimator == StepConfig::Estimator::Central ? "central" : "forward", s.epsilon,
                  per_pass, s.independent_data ? "a batch each" : "one batch", s.query_batch.train_batch_size,
                  config.model.classifies ? "up to " : "", s.query_sequence_length);
  if (s.bp_interval > 0) text += fmt::format("; backprop every {} steps", s.bp_interval);
  if (s.bp_interval > 0 && s.mode == StepConfig::Mode::Calibrate && s.monitor_interval > 0)
    text += fmt::format(", with queries beside it every {}", s.bp_interval * s.monitor_interval);
  if (s.zo_steps > 0) text += fmt::format("; {} after each step of backprop", s.zo_steps);
  if (s.is_accuracy) text += "; the loss is minus the accuracy";
  if (s.uses_backprop() && !config.reads_one_stream()) text += "; the loss is that of the queries, bp loss that of backprop";
  if (s.direction_parallel > 1) text += fmt::format("; shared out over {} groups of ranks", s.direction_parallel);
  return text;
}

// `length`: tokens of a sample; of texts with labels the most.
std::string data_text(const Config& config, const DataFacts& facts, int64_t length) {
  std::string text = fmt::format("{} tokens in {} of {}{}", grouped(facts.sample_tokens), plural(facts.samples, "sample"),
                                 config.model.classifies ? "up to " : "", plural(length, "token"));
  // What is left over at the end of a corpus is less than a sample.
  if (facts.corpus_tokens > facts.sample_tokens + length) text += fmt::format(", out of {}", plural(facts.corpus_tokens, "token"));
  return text + (facts.is_from_cache ? " (from the cache)" : "");
}

// What a run reads of each source, where there are several.
void add_sources(std::vector<std::string>& lines, const DataFacts& facts) {
  for (const SampleSource& source : facts.sources) {
    if (facts.sources.size() < 2) return;
    const double reads = source.share * static_cast<double>(facts.reads), samples = static_cast<double>(source.num_samples);
    std::string text = fmt::format("{}: {:.4g} % of the samples, out of {}", source.name, 100 * source.share, grouped(source.num_samples));
    if (facts.is_weighted && facts.reads > 0) {
      text += reads > samples ? fmt::format(", which come {:.3g} times in the {} of the run", reads / samples, grouped(facts.reads))
                              : fmt::format(", of which the run reads {}", grouped(std::llround(reads)));
    }
    add_line(lines, "source", text);
  }
}

void add_sets(std::vector<std::string>& lines, const Config& config, const char* what, const std::vector<SetFacts>& sets) {
  for (const SetFacts& set : sets)
    add_line(lines, what, (set.name.empty() ? "" : set.name + ": ") + data_text(config, set.data, config.data.sequence_length));
}

// What of the epochs that were asked for the whole steps are.
std::string epochs_text(const Config& config, int64_t samples) {
  const int64_t step = config.samples_of_step();
  const double asked = config.run.epochs * static_cast<double>(samples),
               reads = static_cast<double>(config.run.steps) * static_cast<double>(step);
  const std::string text = fmt::format("{:g} x {}, {} a step", config.run.epochs, plural(samples, "sample"), grouped(step));
  if (reads > asked) return text + ": less than a step, of which there is one";
  const double rest = std::floor(asked - reads);
  if (rest < 1 || rest >= static_cast<double>(step)) return text;
  return text + fmt::format(": the last {}, less than a step, {} left out", plural(static_cast<int64_t>(rest), "sample"),
                            rest == 1 ? "is" : "are");
}

// Of a monitor that writes below the run's folder.
std::string folder_of(const MonitorConfig::Series& series, const char* name) {
  return series.enabled && series.output_path.empty() ? fmt::format(", {}/", name) : "";
}

std::string quality_text(const RunOutcome::Evaluated& set) {
  return set.accuracy ? fmt::format("accuracy {:.4f}", *set.accuracy) : fmt::format("perplexity {:.4g}", std::exp(set.loss));
}

// Where nothing keeps what is trained.
std::string weights_text(const Config& config) {
  constexpr const char* kHow = "run.checkpoint_interval N writes checkpoints, train --save-model DIR the trained model";
  if (config.step.uses_backprop() || config.optimizer.orthogonal()) return fmt::format("are not kept when the run ends: {}", kHow);
  return fmt::format(
      "are not kept when the run ends, but `{} rebuild` makes them again from zo_log.jsonl and the first weights "
      "(`{} init`); {}",
      program_name(), program_name(), kHow);
}

// What the process held at its peak: what it had before the model, what the plan counts, and what lies beside the plan or was never held
// at once.
std::string resident_text(int64_t before, int64_t planned, int64_t peak) {
  const int64_t rest = peak - before - planned;
  return fmt::format("peak {} of this process = {} before the model + {} planned {} {} {}", human_bytes(peak), human_bytes(before),
                     human_bytes(planned), rest < 0 ? "-" : "+", human_bytes(std::abs(rest)),
                     rest < 0 ? "never held at once" : "beside the plan");
}

// The steps that are done, and those of them that this process has done.
std::string steps_text(const RunOutcome& o, int64_t planned) {
  const std::string here =
      o.first_step > 0 && o.steps > o.first_step ? fmt::format(", {} to {} here,", grouped(o.first_step + 1), grouped(o.steps)) : "";
  if (!o.stopped_by.empty())
    return fmt::format("stopped by {} after {} of {}{}", o.stopped_by, grouped(o.steps), plural(planned, "step"), here);
  return fmt::format("{} done{}", plural(o.steps, "step"), here);
}

}  // namespace

std::vector<std::string> run_header(const PlanReport& report, const RunFacts& facts) {
  const Config& config = report.config;
  const BatchConfig& batch = config.batch;
  const int64_t step_tokens = batch.train_batch_size * config.data.sequence_length;
  const char* at_most = config.model.classifies ? "up to " : "";  // texts with labels have lengths of their own
  std::vector<std::string> out;
  add_line(out, "model", model_text(config, report.plan.layout));
  add_line(out, "training",
           fmt::format("ZeRO stage {}, {}, {}{}, {}", config.zero.stage, name_of(config.precision.compute), config.optimizer.type_name,
                       config.number_checkpoints != 0 ? ", recomputing activations" : "",
                       config.run.epochs > 0 ? fmt::format("{} steps ({:g} epochs)", grouped(config.run.steps), config.run.epochs)
                                             : plural(config.run.steps, "step")));
  if (config.step.uses_queries()) add_line(out, "queries", queries_text(config, report.plan.queries_per_pass));
  add_line(out, "ranks",
           fmt::format("{}{} on {}, {} each; communication: {}; host kernels: {}", facts.ranks,
                       facts.local_ranks < facts.ranks ? fmt::format(" ({} on this host)", facts.local_ranks) : "", facts.device,
                       plural(facts.threads, "thread"), facts.communication, facts.host_kernels));
  const bool queried = config.step.uses_queries();
  const int64_t length = config.data.sequence_length;
  add_line(out, "data", data_text(config, facts.train, queried ? config.step.query_sequence_length : length));
  add_sources(out, facts.train);
  if (config.run.epochs > 0 && config.run.steps > 0) add_line(out, "epochs", epochs_text(config, facts.train.samples));
  if (facts.backprop.samples > 0) add_line(out, "bp data", data_text(config, facts.backprop, length));
  add_sources(out, facts.backprop);
  add_sets(out, config, "evaluation", facts.evaluation);
  add_sets(out, config, "test", facts.test);
  if (config.step.uses_backprop())
    add_line(out, "batch",
             fmt::format("{} samples = {} a micro-batch x {} accumulation steps x {}: {}{} tokens a step", grouped(batch.train_batch_size),
                         batch.micro_batch_size, batch.accumulation_steps, plural(facts.ranks, "rank"), at_most, grouped(step_tokens)));
  add_line(out, "memory",
           fmt::format("a rank: device {} planned{} ({} there: {}), host {}, file {}", human_bytes(report.cost.device_peak_bytes),
                       report.cost.piece_bytes > 0
                           ? fmt::format(", and up to {} in unfilled pieces of LibTorch", human_bytes(report.cost.piece_bytes))
                           : "",
                       human_bytes(report.limit.device_bytes), report.limit.source, human_bytes(report.cost.host_peak_bytes),
                       human_bytes(report.cost.file_peak_bytes)));
  if (const std::string rests = rests_text(report.plan.any_step()); !rests.empty()) add_line(out, "at rest", "a rank: " + rests);
  add_line(out, "folder", facts.folder);
  if (config.run.checkpoint_interval == 0 && !config.run.keep_best && !facts.saves_model) add_line(out, "weights", weights_text(config));
  return out;
}

std::string evaluation_text(const std::vector<RunOutcome::Evaluated>& sets) {
  std::string out;
  for (const RunOutcome::Evaluated& set : sets)
    out +=
        fmt::format("{}{}loss {:.4f}, {}", out.empty() ? "" : "; ", set.name.empty() ? "" : set.name + ": ", set.loss, quality_text(set));
  return out;
}

namespace {

// How much of the steps' time the disk needs for what a rank moved, at the rates that it was measured with while every rank used it: it
// serves reads and writes in turn. "": it was not measured.
std::string share_of_disk(const Prediction& prediction, const RunOutcome& o) {
  const Link &read = prediction.file_read, &write = prediction.file_write;
  if (!read.is_known() || !write.is_known()) return "";
  const double needed =
      static_cast<double>(o.file_bytes_read) / read.bytes_per_second + static_cast<double>(o.file_bytes_written) / write.bytes_per_second;
  return as_called(fmt::format(", {:.0f} % of what `zerostep bench machine` measured of the disk", 100 * needed / o.seconds));
}

}  // namespace

std::vector<std::string> run_footer(const PlanReport& report, const RunFacts& facts, const RunOutcome& o) {
  std::vector<std::string> out;
  std::string done = steps_text(o, report.config.run.steps);
  const int64_t steps_here = std::max<int64_t>(0, o.steps - o.first_step);
  if (steps_here > 0) {
    std::string losses;
    const auto add = [&](const std::string& text) { losses += (losses.empty() ? ": " : ", ") + text; };
    if (o.loss.last) add(fmt::format("loss {:.4f} -> {:.4f}", *o.loss.first, *o.loss.last));
    if (o.bp_loss.last) add(fmt::format("bp loss {:.4f} -> {:.4f}", *o.bp_loss.first, *o.bp_loss.last));
    for (const auto& [what, sets] : {std::pair("evaluation", &o.evaluation), std::pair("test", &o.test)})
      for (const RunOutcome::Evaluated& set : *sets)
        add(fmt::format("{}{} loss {:.4f} ({})", what, set.name.empty() ? "" : " " + set.name, set.loss, quality_text(set)));
    done += fmt::format(" in {}{}", human_duration(o.seconds), losses);
    if (o.skipped > 0) done += fmt::format(", {} skipped", plural(o.skipped, "step"));
  }
  out.push_back(done);
  if (steps_here > 0 && o.seconds > 0) {
    const double step_seconds = o.seconds / static_cast<double>(steps_here);
    add_line(out, "speed",
             fmt::format("{} tokens/s, {}, {:.1f} ms a step", human_count(static_cast<double>(o.tokens) / o.seconds),
                         human_quantity(o.flops / o.seconds, "FLOP/s"), step_seconds * 1e3));
    if (report.prediction != nullptr) {
      const double predicted = report.prediction->step_seconds;
      const bool is_held_up = step_seconds > kFarAbove * predicted && o.load.exceeds_cores();
      add_line(
          out, "predicted",
          fmt::format("{:.1f} ms a step, bound by {}: {:.0f} % {} than measured{}{}", predicted * 1e3, name_of(report.prediction->bound_by),
                      100 * std::abs(predicted / step_seconds - 1), predicted < step_seconds ? "less" : "more",
                      report.prediction->is_unsteady ? "; from figures " + unsteady_note() : "",
                      is_held_up ? fmt::format("; {}: {}", busy_text(o.load), busy_help()) : ""));
    }
    const double planned = static_cast<double>(report.cost.device_peak_bytes);
    add_line(out, "memory",
             fmt::format("peak {} a rank, {:.1f} % of the plan", human_bytes(o.device_peak_bytes),
                         planned > 0 ? 100 * static_cast<double>(o.device_peak_bytes) / planned : 0.0));
    if (o.file_bytes_read + o.file_bytes_written > 0)
      add_line(out, "disk",
               fmt::format("{} read and {} written a step by rank 0: {:.3g} GB/s{}", human_bytes(o.file_bytes_read / steps_here),
                           human_bytes(o.file_bytes_written / steps_here),
                           1e-9 * static_cast<double>(o.file_bytes_read + o.file_bytes_written) / o.seconds,
                           report.prediction != nullptr ? share_of_disk(*report.prediction, o) : ""));
    if (facts.resident_bytes > 0)
      add_line(out, "resident",
               resident_text(facts.resident_bytes, report.cost.host_peak_bytes + (facts.host_is_device ? report.cost.device_peak_bytes : 0),
                             o.resident_peak_bytes) +
                   (facts.host_is_device ? "" : ", CUDA's libraries among it"));
  }
  add_line(out, "files",
           facts.folder + ": metrics.csv, config.json, plan.json, log.txt" + (report.config.step.uses_queries() ? ", zo_log.jsonl" : "") +
               (report.config.run.trace ? ", trace_rank*.json" : "") + (report.config.run.plot ? ", loss.svg" : "") +
               (o.evaluation.empty() || !report.config.model.classifies ? "" : ", classification.json") +
               (o.test.empty() ? "" : ", test.json") + folder_of(report.config.monitor.csv, CsvMonitor::kFolder) +
               folder_of(report.config.monitor.tensorboard, TensorBoard::kFolder));
  return out;
}

}  // namespace zerostep
