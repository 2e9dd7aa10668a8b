
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
  std::unique_ptr<DataStream> data;
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
  setup.data = open_evaluation_data(setup.subject, hooks);
  setup.device = open_device(config, job.local_rank());
  setup.plan = plan_training(config, *setup.subject.model, *setup.subject.objective, job.size());
  WorkspaceMeter workspaces(WorkspaceMeter::default_file());
  const PlanCost cost = training_cost(config, *setup.plan, *setup.subject.model, *setup.subject.objective, &workspaces);
  setup.plan->device_peak_bytes = cost.device_peak_bytes;
  const PlanReport report{config, *setup.plan, cost, memory_limit(config, setup.device, job.local_size())};
  if (!report.fits()) throw InputError(does_not_fit(report));
  if (job.size() == 1) return;
  setup.inputs.push_back({"data.eval", setup.data->fingerprint()});
  if (const std::string& path = model.empty() ? config.model.path : model; !path.empty())
    setup.inputs.push_back({path, fingerprint_of_values(*setup.subject.model, setup.parameters.read)});
}

void say(const Evaluation& result, const EvalSetup& setup, bool json) {
  const double perplexity = std::exp(result.loss);
  if (result.counts) {
    const std::vector<std::string>& names = setup.subject.labels->names();
    nlohmann::ordered_json out = classification_json(*result.counts, names);
    out["perplexity"] = perplexity;
    json ? print_out("{}\n", out.dump()) : print_out("{}", classification_text(*result.counts, names));
  } else if (json) {
    print_out("{}\n", nlohmann::ordered_json{{"loss", result.loss}, {"perplexity", perplexity}}.dump());
  } else {
    print_out("loss {}, perplexity {} over {} tokens in {} samples\n", round_trip(result.loss), round_trip(perplexity),
              grouped(result.tokens), grouped(setup.data->num_samples()));
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
      print_err("warning: {} {}: they have first values (seed {}), and what is evaluated is an untrained classifier on its encoder\n",
                config.model.fresh_classifier ? "model.fresh_classifier replaces" : config.model.path + " holds no",
                first_names(setup.parameters.untrained), config.seed);
    if (arguments.model.empty() && config.model.path.empty())
      print_err("no --checkpoint is given: this is the untrained model that `{} train` would start from\n", program_name());
  }
  try {
    const DeviceGroup group = group_on(setup.device, job.start(config.run.collective_timeout_seconds), config);
    if (job.speaks() && !group.warning.empty()) print_err("warning: {}\n", group.warning);
    Engine engine(config, *setup.subject.model, *setup.subject.objective, *setup.plan, setup.parameters.read, group.ranks, setup.device);
    const Evaluation result =
        evaluate(engine, *setup.data, setup.subject.model->num_classes(), config.batch.micro_batch_size, job.rank(), job.size());
    if (!std::isfinite(result.loss))
      fail_run("the loss over data.eval is {}: the weights, or what the model makes of them in {}, are no finite numbers",
               without_sign_of_nan(result.loss), name_of(config.precision.compute));
    if (job.speaks()) say(result, setup, arguments.json);
    return kDone;
  } catch (const std::exception& error) {
    return job.failed(error);
  }
}

}  // namespace zerostep
