
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "base/not_a_number.h"
#include "base/program_name.h"
#include "launch/agreement.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/evaluation.h"
#include "launch/machine.h"
#include "launch/model_files.h"
#include "launch/rank_devices.h"
#include "launch/subject.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"

namespace zerostep {
namespace {

struct EvalSetup {
  Subject subject;
  std::vector<EvaluationSet> sets;
  ModelValues parameters;
  std::vector<SharedInput> inputs;
  std::optional<TrainingPlan> plan;
  Device device = Device::cpu();
};

void prepare(Job& job, const EvalArguments& arguments, EvalSetup& setup) {
  setup.subject = job.size() == 1 ? load_subject_on_one_rank(arguments) : load_subject(arguments, {.world = job.size()});
  Config& config = setup.subject.loaded.config;
  // Nothing is updated: no optimizer state.
  config.optimizer.type = OptimizerConfig::Type::SGD;
  config.optimizer.momentum = 0;
  // Before the data: a classifier's labels are numbered as its classes are.
  const std::string model = checkpoint_named_by(arguments.model);
  setup.parameters = model.empty() ? starting_values(setup.subject) : parameters_of_model(model, setup.subject);
  DataHooks hooks;
  if (job.speaks()) hooks = notes_to_stderr();
  hooks.warn = [&job](const std::string& text) {
    if (job.speaks()) print_err("warning: {}\n", text);
  };
  setup.sets = open_evaluation_data(setup.subject, hooks);
  setup.device = open_device(config, job.local_rank());
  setup.plan = plan_training(config, *setup.subject.model, *setup.subject.objective, job.size());
  const MemoryLimit limit = memory_limit(config, setup.device, job.local_size());  // before anything is measured in that memory
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), setup.device);
  const PlanCost cost = training_cost(config, *setup.plan, *setup.subject.model, *setup.subject.objective, &workspaces);
  setup.plan->device_peak_bytes = cost.device_peak_bytes;
  const PlanReport report{config, *setup.plan, cost, limit};
  if (!report.fits()) throw InputError(does_not_fit(report));
  if (job.size() == 1) return;
  for (const EvaluationSet& set : setup.sets) setup.inputs.push_back({"data.eval", set.data->fingerprint()});
  if (const std::string& path = model.empty() ? config.model.path : model; !path.empty())
    setup.inputs.push_back({path, fingerprint_of_values(*setup.subject.model, setup.parameters.read)});
}

void say(const std::vector<Evaluation>& results, const EvalSetup& setup, bool json) {
  const std::vector<std::string> classes = setup.subject.labels ? setup.subject.labels->names() : std::vector<std::string>();
  if (json) return print_out("{}\n", evaluations_json(setup.sets, results, classes).dump());
  for (size_t i = 0; i < results.size(); ++i) {
    const Evaluation& result = results[i];
    const std::string name = results.size() > 1 ? setup.sets[i].name : "";
    if (result.counts) {
      print_out("{}{}", name.empty() ? "" : name + "\n", classification_text(*result.counts, classes));
    } else {
      print_out("{}loss {:.6f}, perplexity {:.6g} over {} tokens in {} samples\n", name.empty() ? "" : name + ": ", result.loss,
                std::exp(result.loss), grouped(result.tokens), grouped(setup.sets[i].data->num_samples()));
    }
  }
}

}  // namespace

int eval(Job& job, const EvalArguments& arguments) {
  set_threads(job.cores());
  EvalSetup setup;
  job.together("evaluation", [&] { prepare(job, arguments, setup); });
  require_same_configuration(job, setup.subject);
  require_same_device(job, setup.subject.config());
  require_same_inputs(job, setup.inputs);
  const Config& config = setup.subject.config();
  if (job.speaks()) {
    print_warnings(setup.subject.loaded);
    for (const std::string& note : setup.parameters.notes) print_err("warning: {}\n", note);
    if (!setup.parameters.untrained.empty())
      print_err("warning: {} {}: they have first values (seed {}), and what is evaluated is an untrained classifier\n",
                config.model.fresh_classifier ? "model.fresh_classifier replaces" : config.model.path + " holds no",
                first_names(setup.parameters.untrained), config.seed);
    if (arguments.model.empty() && config.model.path.empty())
      print_err("no --checkpoint is given: this is the untrained model that `{} train` would start from\n", program_name());
  }
  try {
    const DeviceGroup group = group_on(setup.device, job.start(config.run.collective_timeout_seconds), config);
    if (job.speaks() && !group.warning.empty()) print_err("warning: {}\n", group.warning);
    Engine engine(config, *setup.subject.model, *setup.subject.objective, *setup.plan, setup.parameters.read, group.ranks, setup.device);
    const std::vector<Evaluation> results =
        evaluate(engine, setup.sets, setup.subject.model->num_classes(), config.batch.micro_batch_size, job.rank(), job.size());
    for (const Evaluation& result : results)
      if (!std::isfinite(result.loss))
        fail_run("the loss over data.eval is {}: the weights, or what the model makes of them in {}, are no finite numbers",
                 without_sign_of_nan(result.loss), name_of(config.precision.compute));
    if (job.speaks()) say(results, setup, arguments.json);
    return kDone;
  } catch (const std::exception& error) {
    return job.failed(error);
  }
}

}  // namespace zerostep
