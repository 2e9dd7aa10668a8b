#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/not_a_number.h"
#include "base/program_name.h"
#include "experiments/doctor/machine_checks.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/model_files.h"
#include "launch/needed_folders.h"
#include "launch/run_folder.h"
#include "models/error_text.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/plan_warnings.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

constexpr double kMpiSeconds = 60;

// Says each finding as it comes, or keeps all for one object.
class Findings {
 public:
  explicit Findings(bool json) : json_(json) {}
  void add(const Finding& finding) {
    has_errors_ |= finding.verdict == Verdict::Error;
    checks_.push_back(
        {{"subject", finding.subject}, {"verdict", name_of(finding.verdict)}, {"text", finding.text}, {"help", finding.help}});
    if (json_) return;
    std::string line = fmt::format("{:<8} {:<15} {}", name_of(finding.verdict), finding.subject, finding.text);
    if (!finding.help.empty()) line += ". What helps: " + finding.help;
    std::replace(line.begin(), line.end(), '\n', ' ');
    print_out("{}\n", visible(line));
    flush_out();
  }
  int finish() const {
    if (json_)
      print_out("{}\n", nlohmann::ordered_json{{"ok", !has_errors_}, {"checks", checks_}}.dump(
                            1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return has_errors_ ? kFailed : kDone;
  }

 private:
  bool json_, has_errors_ = false;
  nlohmann::ordered_json checks_ = nlohmann::ordered_json::array();
};

// The path at which mpirun finds this program.
std::string path_of_program() {
  std::error_code error;
  const std::filesystem::path called = program_name();
  if (called.has_parent_path() && std::filesystem::exists(called, error)) return std::filesystem::absolute(called, error).string();
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

// Collective: 1 + 2 + ... over the ranks.
double sum_over_ranks(Job& job, double timeout_seconds) {
  double value = job.rank() + 1;
  job.start(timeout_seconds).all_reduce_scalars({&value, 1}, ReduceOp::Sum, "sum of the doctor");
  return value;
}

// Of this job's own ranks, which mpirun has started already; within a job it starts no others.
Finding check_ranks(Job& job) {
  if (job.size() == 1)
    return {"MPI", Verdict::Warning, "this is a job of one rank",
            "call doctor without mpirun, or with more ranks, to see whether they find each other"};
  const double sum = sum_over_ranks(job, kMpiSeconds), expected = job.size() * (job.size() + 1) / 2.0;
  const std::string text = fmt::format("the {} ranks of this job add up to {}, by {}", job.size(), sum, job.world().backend());
  return sum == expected ? Finding{"MPI", Verdict::Ok, text}
                         : Finding{"MPI", Verdict::Error, fmt::format("{}, where {} is right", text, expected), "docs/launching.md"};
}

// What a file's run finds on this machine, one after the other; what is wrong ends it, as nothing beyond can be known.
class FileChecks {
 public:
  FileChecks(const DoctorArguments& arguments, Findings& findings) : arguments_(arguments), findings_(findings) {}

  void run() {
    const std::pair<const char*, void (FileChecks::*)()> kChecks[] = {
        {"file", &FileChecks::file},         {"tokenizer", &FileChecks::subject}, {"data", &FileChecks::data},
        {"model", &FileChecks::model},       {"plan", &FileChecks::plan},         {"forward", &FileChecks::forward},
        {"run folder", &FileChecks::folders}};
    std::string unchecked;
    for (const auto& [name, check] : kChecks) {
      if (is_wrong_) {
        unchecked += (unchecked.empty() ? "" : ", ") + std::string(name);
        continue;
      }
      try {
        (this->*check)();
      } catch (const std::exception& error) {
        is_wrong_ = true;
        findings_.add({name, Verdict::Error, error_text(error)});
      }
    }
    if (!unchecked.empty()) findings_.add({"not checked", Verdict::Warning, unchecked, "check again when that error is gone"});
  }
  // Bytes that the run locks in memory; below 0: it did not come so far.
  int64_t locked_bytes() const { return locked_bytes_; }
  bool wants_gpu() const { return wants_gpu_; }

 private:
  void ok(const char* name, std::string text) { findings_.add({name, Verdict::Ok, std::move(text)}); }
  void warn(const char* name, std::string text, std::string help) {
    findings_.add({name, Verdict::Warning, std::move(text), std::move(help)});
  }
  const Config& config() const { return subject_.config(); }

  void file() {
    const LoadedConfig loaded = load_config({arguments_.file, one_rank().set, 1});
    for (const std::string& warning : loaded.warnings) warn("file", warning, "see `" + program_name() + " config`");
    ok("file", fmt::format("{}: step.mode {}, {}, ZeRO stage {}", arguments_.file, loaded.config.step.mode_name,
                           name_of(loaded.config.precision.compute), loaded.config.zero.stage));
    wants_gpu_ = loaded.config.run.device == "cuda";
  }
  // For many ranks what divides by their number alone.
  ConfigArguments one_rank() const {
    ConfigArguments out = arguments_;
    out.set.insert(out.set.end(), {{"step.direction_parallel=null", ""}, {"gradient_accumulation_steps=null", ""}});
    return out;
  }
  void subject() {
    subject_ = load_subject_on_one_rank(arguments_);
    ok("tokenizer", fmt::format("{}, {} tokens", config().data.tokenizer, grouped(subject_.tokenizer->vocabulary_size())));
  }
  void data() {
    DataHooks hooks;
    hooks.warn = [&](const std::string& text) { warn("data", text, "look at the file"); };
    const auto describe = [&](const std::string& key, const DataStream& stream) {
      ok("data", fmt::format("{}: {} samples of {} tokens in all{}", key, grouped(stream.num_samples()), grouped(stream.num_tokens()),
                             stream.num_left_out() > 0 ? fmt::format(", {} left out", counted(stream.num_left_out(), "row")) : ""));
    };
    if (config().data.train.empty())
      warn("data", "data.train names no file, so that nothing can be trained", "name a path, a glob or a list of them");
    else
      describe("data.train", *(data_ = open_training_data(subject_, hooks)));
    if (const auto own = open_backprop_data(subject_, hooks)) describe("data of backprop", *own);
    for (const char* key : {"data.eval", "data.test"}) {
      const bool is_test = key == std::string_view("data.test");
      if ((is_test ? config().data.test : config().data.eval).empty()) continue;
      for (EvaluationSet& set : is_test ? open_test_data(subject_, hooks) : open_evaluation_data(subject_, hooks)) {
        describe(set.name.empty() ? key : fmt::format("{}, {}", key, set.name), *set.data);
        if (!data_) data_ = std::move(set.data);
      }
    }
  }
  void model() {
    values_ = starting_values(subject_);
    for (const std::string& note : values_.notes) warn("model", note, "");  // it says itself what helps
    ok("model", fmt::format("{}: {} parameters in {} units, {}", config().model.path.empty() ? "untrained" : config().model.path,
                            grouped(subject_.model->num_elements()), subject_.model->units().size(), name_of(config().precision.compute)));
  }
  void plan() {
    device_ = open_device(config(), 0);
    plan_ = plan_training(config(), *subject_.model, *subject_.objective, 1);
    MemoryLimit limit = memory_limit(config(), device_, 1);
    WorkspaceMeter workspaces(WorkspaceMeter::default_file(), device_);
    PlanCost cost = training_cost(config(), *plan_, *subject_.model, *subject_.objective, &workspaces);
    plan_->device_peak_bytes = cost.device_peak_bytes;
    checkpoint_bytes_ = staging_bytes(config(), *plan_);
    const OffloadConfig &parameters = config().zero.offload_param, &state = config().zero.offload_optimizer;
    const bool pins = (parameters.tier != Tier::Device && parameters.pin_memory) || (state.tier != Tier::Device && state.pin_memory);
    locked_bytes_ = pins ? cost.host_peak_bytes : 0;
    cost.host_peak_bytes += checkpoint_bytes_;
    limit_files(limit, config(), *plan_, 1);
    const PlanReport report{config(), *plan_, cost, limit};
    for (const std::string& warning : plan_warnings(config(), *plan_, *subject_.model, *subject_.objective))
      warn("plan", warning, "`" + program_name() + " plan` shows it");
    if (!report.fits()) throw InputError(does_not_fit(report));
    require_host_memory(config(), cost, limit, device_, 1);
    ok("plan",
       fmt::format("one rank: device {} of {} ({}), host {}, files {}", human_bytes(cost.device_peak_bytes),
                   human_bytes(limit.device_bytes), limit.source, human_bytes(cost.host_peak_bytes), human_bytes(cost.file_peak_bytes)));
  }
  void forward() {
    if (!data_) return warn("forward", "there is no data to run one on", "name data.train or data.eval");
    // Nothing is updated: no optimizer state.
    Config evaluated = config();
    evaluated.optimizer.type = OptimizerConfig::Type::SGD;
    evaluated.optimizer.momentum = 0;
    const TrainingPlan plan = plan_training(evaluated, *subject_.model, *subject_.objective, 1);
    const int64_t samples = std::min(data_->num_samples(), config().batch.micro_batch_size);
    EvaluationResult result;
    double seconds = 0;
    // A group of one, also where mpirun has started more.
    run_local_ranks(1, {config().run.collective_timeout_seconds}, [&](const Communicator& self) {
      Engine engine(evaluated, *subject_.model, *subject_.objective, plan, values_.read, group_on(device_, self, evaluated).ranks, device_);
      const auto begin = std::chrono::steady_clock::now();
      result = engine.evaluate(1, [&](int64_t) { return Engine::EvaluationBatch{data_->ordered(0, samples), true}; });
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    });
    if (!std::isfinite(result.loss))
      fail_run("the loss over {} is {}: the weights, or what the model makes of them in {}, are no finite numbers",
               counted(samples, "sample"), without_sign_of_nan(result.loss), name_of(config().precision.compute));
    ok("forward", fmt::format("{} in {:.3g} s: loss {:.4f} (of a guess {:.4f})", counted(samples, "sample"), seconds, result.loss,
                              std::log(static_cast<double>(subject_.model->num_classes() > 0 ? subject_.model->num_classes()
                                                                                             : subject_.model->vocabulary_size()))));
  }
  void folders() {
    check_run_folder(config());
    for (const std::string& refusal : refusals_of_folders(config(), *plan_)) fail_input("{}", refusal);
    const RunConfig& run = config().run;
    // While one is written those that stay are there.
    const int64_t kept = run.keep_checkpoints > 0 ? run.keep_checkpoints + 1 + (run.keep_best ? 1 : 0) : -1;
    const bool writes = run.checkpoint_interval > 0 || run.keep_best;
    findings_.add(check_disk("disk of the run", run.output_dir, !writes ? 0 : kept < 0 ? -1 : kept * checkpoint_bytes_));
  }

  const DoctorArguments& arguments_;
  Findings& findings_;
  bool is_wrong_ = false, wants_gpu_ = false;
  int64_t locked_bytes_ = -1, checkpoint_bytes_ = 0;
  Subject subject_;
  std::unique_ptr<DataStream> data_;
  ModelValues values_;
  Device device_ = Device::cpu();
  std::optional<TrainingPlan> plan_;
};

}  // namespace

int doctor_ranks(Job& job) {
  const double sum = sum_over_ranks(job, kMpiSeconds);
  if (job.speaks())
    print_out("{}\n", nlohmann::ordered_json{{"ranks", job.size()}, {"sum", sum}, {"backend", job.world().backend()}}.dump());
  return kDone;
}

int doctor(Job& job, const DoctorArguments& arguments) {
  const int threads = set_threads(job.cores());
  const bool is_job = job.size() > 1 || std::getenv("PMIX_RANK") != nullptr;
  const std::optional<Finding> ranks = is_job ? std::optional(check_ranks(job)) : std::nullopt;
  if (!job.speaks()) return kDone;
  Findings findings(arguments.json);
  findings.add(check_cores());
  findings.add(check_threads(num_cores()));
  findings.add(check_memory());
  findings.add(check_shared_memory());
  if (arguments.file.empty()) findings.add(check_locked_memory());
  findings.add(ranks ? *ranks : check_mpi(path_of_program(), kMpiSeconds));
  findings.add(check_libtorch());
  findings.add(check_16bit());
  findings.add(check_kernels());
  findings.add(check_disk("disk", "."));
  if (arguments.file.empty()) findings.add(check_gpu());
  findings.add(check_nccl());
  // Where a GPU answers runs compute there unless they are told otherwise.
  const std::string model = Device::gpu_model(0);
  findings.add(check_figures(job.local_size(), threads, model.empty() ? "" : gpu_of_figures(model, job.local_size())));
  if (arguments.file.empty()) return findings.finish();
  FileChecks file(arguments, findings);
  file.run();
  findings.add(check_locked_memory(file.locked_bytes()));
  findings.add(check_gpu(file.wants_gpu()));
  return findings.finish();
}

}  // namespace zerostep
