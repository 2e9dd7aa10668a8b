#include "launch/train_run.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/format.h"
#include "base/process_memory.h"
#include "base/signal_name.h"
#include "experiments/plot/loss_picture.h"
#include "experiments/report/telling_parts.h"
#include "launch/signals.h"
#include "models/text_file.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/report/comms_report.h"
#include "runtime/report/flops_profile.h"
#include "runtime/report/output_file.h"
#include "runtime/strategy/zeroth_order.h"

namespace zerostep {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void log_lines(RunLog& log, const std::string& text) {
  for_each_line(text, [&](std::string_view line, int64_t) { log.line(line); });
}

std::vector<RunOutcome::Evaluated> evaluated(const std::vector<EvaluationSet>& sets, const std::vector<Evaluation>& evaluations) {
  std::vector<RunOutcome::Evaluated> out;
  for (size_t i = 0; i < evaluations.size(); ++i)
    out.push_back({evaluations.size() > 1 ? sets[i].name : "", evaluations[i].loss, evaluations[i].accuracy()});
  return out;
}

}  // namespace

TrainRun::TrainRun(Job& job, TrainSetup& setup, Engine& engine, CheckpointWriter* writer)
    : job_(job),
      setup_(setup),
      config_(setup.config()),
      engine_(engine),
      writer_(writer),
      log_(setup.log),
      backprop_shape_{config_.batch.train_batch_size, config_.batch.micro_batch_size, job.rank(), job.size()},
      progress_(config_.run.steps, config_.precision.compute == DType::F16),
      counters_before_(engine.comm_counters()) {
  if (const BatchConfig& queries = config_.step.query_batch; config_.step.uses_queries()) {
    const QueryShare share = query_share(config_.step, job.rank(), job.size());
    query_shape_ = {queries.train_batch_size, queries.micro_batch_size, share.data_rank, share.data_ranks};
  }
  outcome_.first_step = setup.first_step();
  const int64_t first = setup.continues ? setup.first_step() : 0;
  if (setup.continues) best_ = best_before_ = {setup.checkpoint->manifest().best_step, setup.checkpoint->manifest().best_loss};
  if (writer_ != nullptr) identity_ = identity_of(setup);
  const int64_t staged = writer_ != nullptr ? writer_->image_bytes() : 0;
  if (const int64_t host = staged + engine.arena_bytes(Tier::Host); host > 0)
    host_bytes_ = engine.highest(static_cast<double>(host), "memory of the host");
  if (engine.file_bytes() > 0) file_bytes_ = engine.highest(static_cast<double>(engine.file_bytes()), "bytes in files");
  if (!job.speaks()) return;
  if (!engine.describe_files().empty())
    log_.line(fmt::format("scratch        {} a rank: {}", human_bytes(static_cast<int64_t>(file_bytes_)), engine.describe_files()));
  columns_of_sets_ = columns_of_sets(config_);
  metrics_.emplace(setup.folder.file("metrics.csv"), first, columns_of_sets_);
  if (metrics_->rows_kept() != first)
    log_.warn(fmt::format("metrics.csv holds {} of the {} steps before the checkpoint", metrics_->rows_kept(), first));
  if (config_.step.uses_queries()) zo_log_.emplace(setup.folder.file("zo_log.jsonl"), setup.subject.loaded.update_values, first);
  const int64_t samples = first * config_.batch.train_batch_size;
  if (first == 0 && !config_.run.overwrite)
    for (const std::string& note : set_series_aside(config_, setup.folder)) log_.warn(note);
  if (config_.monitor.csv.enabled) csv_ = CsvMonitor(csv_folder(config_, setup.folder), first > 0 ? std::optional(samples) : std::nullopt);
  if (config_.monitor.tensorboard.enabled) {
    TensorBoard::Options options;
    options.folder = tensorboard_folder(config_, setup.folder);
    if (first > 0) options.kept = {samples, first};
    options.hyper_parameters = hyper_parameters(setup.subject.loaded, job.size(), keys_of_sweep(config_.run.output_dir));
    options.warn = [this](const std::string& text) { log_.warn(text); };
    board_.emplace(std::move(options));
  }
  memory_moment("the model is loaded");
}

void TrainRun::run() {
  defer_signals();
  const int64_t first = setup_.first_step();
  int64_t next = first;
  while (next < config_.run.steps && !stopped_) step(next++);
  // A short run may end before the engine gives up.
  if (!stopped_ && next > first && engine_.progress().skipped_in_a_row >= next - first) engine_.fail_skipped(next - 1);
  if (!stopped_ && next > first && !setup_.test_sets.empty()) test();
}

StepBatches TrainRun::batches_of(int64_t step) const {
  const DataStream *queries = setup_.train_data.get(), *backprop = setup_.backprop_data ? setup_.backprop_data.get() : queries;
  return {[=, this](int64_t micro_batch) { return backprop->batch(step, micro_batch, backprop_shape_); },
          [=, this](int64_t direction, int64_t micro_batch) {
            const StepConfig& c = config_.step;
            return queries->batch(c.independent_data ? step * c.queries + direction : step, micro_batch, query_shape_);
          }};
}

void TrainRun::step(int64_t step) {
  const Stopwatch watch;
  const bool stops_here = step + 1 == setup_.stop_after && setup_.stop_after < config_.run.steps;
  const StepResult result = engine_.train_step(step, batches_of(step), pending_signal() != 0);
  const double seconds = watch.seconds();
  stopped_ = result.stop || stops_here;
  if (stopped_) {
    const int signal = pending_signal();
    outcome_.stopped_by = !result.stop ? "--stop-after" : signal == 0 ? "another rank's signal" : name_of_signal(signal);
  }
  const int64_t done = step + 1;
  std::vector<Evaluation> evaluations;
  if (!setup_.eval_sets.empty() && !result.stop && is_evaluated(step)) evaluations = evaluate_now(setup_.eval_sets);
  const double eval_loss = evaluations.empty() ? 0 : evaluations.front().loss;
  const bool best = !evaluations.empty() && config_.run.keep_best && writer_ != nullptr && std::isfinite(eval_loss) &&
                    (best_.step < 0 || eval_loss < best_.loss);
  if (job_.speaks()) record(step, result, seconds, evaluations);
  const bool save =
      config_.run.checkpoint_interval > 0 && (done % config_.run.checkpoint_interval == 0 || done == config_.run.steps || stopped_);
  check_checkpoints(false);
  if (best) {
    best_before_ = best_;
    best_ = {done, eval_loss};
  }
  if (writer_ != nullptr && (save || best)) save_checkpoint(done);
}

int64_t TrainRun::epoch_of(int64_t step) const { return step * config_.samples_of_step() / setup_.train_data->num_samples(); }

bool TrainRun::is_evaluated(int64_t step) const {
  const int64_t done = step + 1, interval = config_.run.eval_interval;
  const bool ends_epoch = config_.run.evaluates_epochs && epoch_of(done) != epoch_of(step);
  return ends_epoch || (interval > 0 && done % interval == 0) || done == config_.run.steps;
}

void TrainRun::save_checkpoint(int64_t steps_done) {
  if (board_) board_->flush();  // a run that goes on from there has what was before it
  Manifest manifest;
  manifest.program = ZEROSTEP_VERSION;
  manifest.step = steps_done;
  manifest.ranks = job_.size();
  manifest.stage = config_.zero.stage;
  manifest.best_step = best_.step;
  manifest.best_loss = best_.loss;
  manifest.engine = progress_json(engine_.progress());
  manifest.configuration = nlohmann::ordered_json::parse(setup_.subject.loaded.resolved_json);
  manifest.model = nlohmann::ordered_json::parse(setup_.subject.model->hugging_face_config());
  manifest.identity = identity_;
  const CheckpointWriter::Times before = writer_->times();
  try {
    writer_->save(std::move(manifest));
  } catch (const RunError& error) {  // of the checkpoint before
    if (config_.run.end_on_checkpoint_error) throw;
    log_.warn(fmt::format("{}; the run goes on (checkpoint.on_error)", error.what()));
  }
  const CheckpointWriter::Times now = writer_->times();
  if (job_.speaks())
    log_.line(fmt::format("checkpoint {}: writing {} a rank, the run waited {}", checkpoint_name(steps_done), human_bytes(now.bytes),
                          human_duration(now.waited_seconds - before.waited_seconds + now.staged_seconds - before.staged_seconds)));
}

void TrainRun::check_checkpoints(bool wait) {
  if (writer_ == nullptr) return;
  if (const std::string warning = writer_->take_warning(); !warning.empty()) log_.warn(warning);
  try {
    wait ? writer_->finish() : writer_->check();
  } catch (const RunError& error) {
    if (config_.run.end_on_checkpoint_error) throw;
    best_ = best_before_;
    log_.warn(fmt::format("{}; the run goes on (checkpoint.on_error)", error.what()));
  }
}

std::vector<Evaluation> TrainRun::evaluate_now(const std::vector<EvaluationSet>& sets) {
  if (board_) board_->flush();  // it may take long
  int64_t samples = 0;
  for (const EvaluationSet& set : sets) samples += set.data->num_samples();
  log_.status(fmt::format("evaluating on {} samples ...", grouped(samples)));
  return evaluate(engine_, sets, setup_.subject.model->num_classes(), config_.batch.micro_batch_size, job_.rank(), job_.size());
}

// What a classifier's last evaluation says of each class.
void TrainRun::keep_report(int64_t steps_done, const std::vector<Evaluation>& evaluations) {
  const std::vector<std::string>& classes = setup_.subject.labels->names();
  for (size_t i = 0; i < evaluations.size(); ++i) {
    if (evaluations.size() > 1) log_.line(setup_.eval_sets[i].name);
    log_lines(log_, classification_text(*evaluations[i].counts, classes));
  }
  nlohmann::ordered_json report = evaluations_json(setup_.eval_sets, evaluations, classes);
  report["step"] = steps_done;
  write_file(setup_.folder.file("classification.json"), report.dump(2) + "\n");
}

void TrainRun::test() {
  const std::vector<Evaluation> evaluations = evaluate_now(setup_.test_sets);
  if (!job_.speaks()) return;
  log_.clear_status();
  outcome_.test = evaluated(setup_.test_sets, evaluations);
  log_.line(fmt::format("test after step {}: {}", config_.run.steps, evaluation_text(outcome_.test)));
  const std::vector<std::string> classes = setup_.subject.labels ? setup_.subject.labels->names() : std::vector<std::string>();
  nlohmann::ordered_json report = evaluations_json(setup_.test_sets, evaluations, classes);
  report["step"] = config_.run.steps;
  write_file(setup_.folder.file("test.json"), report.dump(2) + "\n");
}

// Tokens of the samples that a step trains on.
int64_t TrainRun::tokens_of(int64_t step) const {
  const StepConfig& kind = config_.step;
  if (step_kind(kind, step).backprop)
    return (setup_.backprop_data ? setup_.backprop_data : setup_.train_data)->tokens_of_batch(step, config_.batch.train_batch_size);
  int64_t tokens = 0;
  for (int64_t b = 0, batches = kind.independent_data ? kind.queries : 1; b < batches; ++b)
    tokens += setup_.train_data->tokens_of_batch(step * batches + b, kind.query_batch.train_batch_size);
  return tokens;
}

void TrainRun::record(int64_t step, const StepResult& result, double seconds, const std::vector<Evaluation>& evaluations) {
  const StepConfig& kind = config_.step;
  const bool queried = !step_kind(kind, step).backprop;
  const int64_t batch_size = queried ? kind.query_batch.train_batch_size : config_.batch.train_batch_size;
  const int64_t tokens = tokens_of(step);
  MetricsRow row;
  row.timestamp = timestamp_now();
  row.epoch = epoch_of(step);
  row.step = step;
  row.mode = config_.step.mode_name;
  row.scope = kind.scope.size() == 1 && (kind.scope[0] == "full" || kind.scope[0] == "reduced") ? kind.scope[0] : "patterns";
  if (kind.uses_queries()) row.q = kind.queries;
  if (kind.bp_interval > 0) row.bp_interval = kind.bp_interval;
  row.cosine = result.cosine;
  row.unchanged_share = result.unchanged_share;
  row.lr = result.lr;
  row.batch_size = batch_size;
  row.optimizer = config_.optimizer.type_name;
  row.loss = result.loss;
  if (kind.uses_queries()) row.bp_loss = result.bp_loss;
  row.grad_norm = result.grad_norm;
  if (config_.gradient_clipping > 0 && !result.skipped) row.clip_scale = result.clip_scale;
  if (!evaluations.empty()) {
    row.eval_loss = evaluations.front().loss;
    row.eval_accuracy = evaluations.front().accuracy();
  }
  for (size_t i = 0; i < columns_of_sets_.size(); ++i) {
    row.of_sets.emplace_back(columns_of_sets_[i].c_str(), std::nullopt);
    if (evaluations.empty()) continue;
    const Evaluation& of_set = evaluations[i % evaluations.size()];
    row.of_sets.back().second = i < evaluations.size() ? std::optional(of_set.loss) : of_set.accuracy();
  }
  if (result.loss) row.loss_kind = result.loss_of_pairs ? "pairs" : "unperturbed";
  row.tokens_per_second = static_cast<double>(tokens) / seconds;
  row.step_seconds = seconds;
  row.loss_scale = result.loss_scale;
  row.skipped = result.skipped;
  row.device_peak_bytes = result.device_peak_bytes;
  row.resident_bytes = result.resident_bytes;
  row.gpu_busy = result.gpu_busy;
  row.gpu_bytes = result.gpu_bytes;
  row.host_peak_bytes = static_cast<int64_t>(host_bytes_);
  row.file_peak_bytes = static_cast<int64_t>(file_bytes_);
  row.elements_gathered = result.elements_gathered;
  row.elements_reduced = result.elements_reduced;
  metrics_->append(row);
  write_series(result, row);
  log_queries(step, result);
  watch_clipping(step, result);

  outcome_.steps = step + 1;
  outcome_.skipped += result.skipped ? 1 : 0;
  outcome_.tokens += tokens;
  outcome_.seconds += seconds;
  outcome_.flops += setup_.plan->step(step_kind(kind, step)).flops * job_.size();
  outcome_.file_bytes_read += result.file_bytes_read;
  outcome_.file_bytes_written += result.file_bytes_written;
  const std::optional<double> other_loss = kind.uses_queries() && !config_.reads_one_stream() ? result.bp_loss : std::nullopt;
  outcome_.loss.add(result.loss);
  outcome_.bp_loss.add(other_loss);
  outcome_.device_peak_bytes = result.device_peak_bytes;
  progress_.add({step, result.loss, result.grad_norm, result.lr, result.loss_scale, result.skipped, seconds, tokens,
                 result.device_peak_bytes, other_loss});

  const bool due = progress_.due(config_.steps_per_print) || stopped_;
  if (due && log_.has_terminal()) log_.note(progress_.line());
  if (due && !log_.has_terminal()) log_.line(progress_.line());
  if (log_.has_terminal()) log_.status(progress_.line());
  monitor(step, seconds);
  if (evaluations.empty()) return;
  outcome_.evaluation = evaluated(setup_.eval_sets, evaluations);
  log_.line(fmt::format("evaluation after step {}: {}", step + 1, evaluation_text(outcome_.evaluation)));
  if (evaluations.front().counts && step + 1 == config_.run.steps) keep_report(step + 1, evaluations);
}

void TrainRun::log_queries(int64_t step, const StepResult& result) {
  constexpr double kTooMany = 0.1;
  if (!result.scalars.empty() && !step_kind(config_.step, step).backprop)
    zo_log_->append({step, config_.seed, config_.step.epsilon, result.lr, result.scalars, result.clip_scale, result.skipped, "",
                     step == 0 ? setup_.first_values_fingerprint : ""});
  if (result.unchanged_share.value_or(0) > kTooMany)
    log_.warn(
        fmt::format("step.epsilon {} leaves {:.1f} % of the {} weights unchanged: their part of a direction is not probed. A larger "
                    "step.epsilon, or fp32, probes them all",
                    config_.step.epsilon, 100 * *result.unchanged_share, name_of(config_.precision.compute)));
}

void TrainRun::watch_clipping(int64_t step, const StepResult& result) {
  if (config_.gradient_clipping <= 0 || result.skipped) return;
  const bool follows_gradient = step_kind(config_.step, step).update == StepKind::Update::Gradient;
  ClipWatch& watch = follows_gradient ? clipped_gradients_ : clipped_estimates_;
  if (const auto cut = watch.add(result.grad_norm, result.clip_scale))
    log_.warn(clip_warning(*cut, config_.gradient_clipping, follows_gradient));
}

void TrainRun::write_series(const StepResult& result, const MetricsRow& row) {
  const int64_t samples = (row.step + 1) * config_.batch.train_batch_size;
  std::vector<TensorBoard::Scalar> series;  // DeepSpeed's
  if (result.loss) series.emplace_back("Train/Samples/train_loss", *result.loss);
  if (result.bp_loss && config_.step.uses_queries()) series.emplace_back("Train/Samples/bp_loss", *result.bp_loss);
  series.emplace_back("Train/Samples/lr", result.lr);
  if (config_.precision.compute == DType::F16) series.emplace_back("Train/Samples/loss_scale", result.loss_scale);
  for (const auto& [name, value] : series) csv_.write(name, samples, value);
  if (!board_) return;
  board_->write_on_samples(samples, series);
  board_->write_on_steps(row.step, metrics_numbers(row));
  if (row.eval_loss) board_->flush();
}

void TrainRun::monitor(int64_t step, double seconds) {
  if (config_.wall_clock_breakdown) {
    breakdown_.add(engine_.timers(), seconds);
    if ((step + 1) % config_.steps_per_print == 0 || step + 1 == config_.run.steps) log_.line(breakdown_.take());
  }
  if (config_.monitor.comms_enabled && config_.monitor.comms_verbose) {
    const CommCounters now = engine_.comm_counters();
    const std::string text = comms_of_step(counters_before_, now);
    if (!text.empty()) log_.line(fmt::format("step {} | {}", step + 1, text));
    counters_before_ = now;
  }
  if (step <= 1) memory_moment(fmt::format("step {} is done", step + 1));
  if (config_.monitor.flops_enabled && step + 1 == config_.monitor.flops_profile_step) {
    engine_.settle();
    const std::string profile = flops_profile(config_, *setup_.plan, step_kind(config_.step, step), engine_.timers(), seconds);
    if (config_.monitor.flops_output_file.empty()) {
      log_lines(log_, profile);
    } else {
      write_file(config_.monitor.flops_output_file, profile);
      log_.line("flops profile: " + config_.monitor.flops_output_file);
    }
  }
}

void TrainRun::memory_moment(const std::string& when) {
  if (!config_.memory_breakdown) return;
  const TensorMemory tensors = engine_.tensor_memory();
  log_.line(memory_line({when, engine_.arena_bytes(), tensors.live_bytes, tensors.peak_bytes}));
}

void TrainRun::finish() {
  engine_.settle();
  if (const Trace* trace = engine_.trace()) trace->write(setup_.folder.file(fmt::format("trace_rank{}.json", job_.rank())));
  if (!job_.speaks()) return;
  if (board_) board_->end(stopped_ ? TensorBoard::End::Stopped : TensorBoard::End::Done);
  log_.clear_status();
  if (config_.monitor.comms_enabled) log_lines(log_, comms_summary(engine_.comm_counters(), job_.size()));
  memory_moment("the run is done");
  outcome_.resident_peak_bytes = resident_memory().peak;
  outcome_.load = machine_load();
  for (const std::string& line : run_footer(setup_.report(), setup_.facts, outcome_)) log_.line(line);
  if (config_.run.plot) draw_loss();
}

void TrainRun::draw_loss() {
  const std::string picture = loss_picture(setup_.folder.path());
  if (picture.empty()) return log_.warn("loss.svg is not drawn (run.plot): no step has a loss");
  write_file(setup_.folder.file("loss.svg"), picture);
}

}  // namespace zerostep
