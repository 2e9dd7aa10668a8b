// Forward and backward of GPT-2's units against the same model written plainly over torch's modules, tokens per second, interleaved in one
// run.
//   OMP_NUM_THREADS=1 gpt2_bench [rounds]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>

#include "models/objective.h"
#include "models/parameter_gradient.h"
#include "tests/support/plain_gpt2.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::median;

at::Tensor loss_of(testing::PlainGpt2& model, const Batch& batch) {
  return at::cross_entropy_loss(model.logits(batch.tokens).flatten(0, 1).to(at::kFloat), batch.labels.flatten());
}

// Our units as the engine drives them: cut at unit boundaries, gradients pre-assigned in fp32.
class Units {
 public:
  Units(const Gpt2Options& options, at::ScalarType type) : definition_(make_gpt2(options)), objective_(make_cross_entropy()) {
    for (const UnitInfo& unit : definition_->units()) {
      std::vector<at::Tensor> tensors;
      for (const ParameterInfo& info : unit.parameters) {
        at::Tensor t = info.init.kind == ParameterInit::Kind::Ones ? at::ones(info.shape) : 0.02 * at::randn(info.shape);
        if (info.shape.size() > 1) t = t.to(type);
        t.requires_grad_();
        t.mutable_grad() = at::empty(info.shape);
        tensors.push_back(t);
      }
      units_.push_back(definition_->make_unit(static_cast<int>(units_.size()), tensors));
      parameters_.push_back(std::move(tensors));
    }
  }
  void step(const Batch& batch, bool fresh) {
    for (const auto& parameters : parameters_) mark_gradients(parameters, fresh);
    const ForwardContext context{&batch, true};
    std::vector<at::Tensor> inputs(units_.size()), outputs(units_.size());
    for (size_t i = 0; i < units_.size(); ++i) {
      if (i > 0) inputs[i] = outputs[i - 1].detach().requires_grad_();
      outputs[i] = units_[i]->forward(i > 0 ? TensorList{inputs[i]} : TensorList{}, context)[0];
    }
    at::Tensor logits = outputs.back().detach().requires_grad_();
    at::Tensor loss = objective_->sum(batch, {logits}).div(static_cast<double>(batch.valid_tokens));
    loss.backward();
    at::Tensor g = logits.grad();
    logits.reset();
    for (size_t i = units_.size(); i-- > 0;) {
      outputs[i].backward(g);
      if (i > 0) g = inputs[i].grad();
      outputs[i].reset();
      inputs[i].reset();
    }
  }

 private:
  std::unique_ptr<ModelDefinition> definition_;
  std::unique_ptr<Objective> objective_;
  std::vector<std::vector<at::Tensor>> parameters_;
  std::vector<std::unique_ptr<Unit>> units_;
};

// The thread's own time: other programs disturb it little, and everything runs in this thread.
template <typename F>
double seconds(const F& f) {
  return testing::seconds_of(f, CLOCK_THREAD_CPUTIME_ID);
}
}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  at::set_num_threads(1);
  const Gpt2Options o = testing::benchmark_gpt2();
  testing::PlainGpt2 plain(o), plain_bf16(o, at::kBFloat16);
  Units fp32(o, at::kFloat), bf16(o, at::kBFloat16);
  std::printf("%-10s %12s %12s %12s %12s %12s   ours/plain  bf16/fp32\n", "tokens", "plain", "units", "accumulate", "plain bf16",
              "units bf16");
  for (const auto& [samples, length] : {std::pair<int64_t, int64_t>{4, 256}, {1, 64}}) {
    Batch batch;
    batch.tokens = at::randint(o.vocab_size, {samples, length}, at::kLong);
    batch.labels = at::randint(o.vocab_size, {samples, length}, at::kLong);
    for (int64_t i = 0; i < samples; ++i) batch.sample_ids.push_back(i);
    batch.valid_tokens = samples * length;
    const auto plain_step = [&](testing::PlainGpt2& model) {
      for (const at::Tensor& p : model.parameters()) p.mutable_grad().reset();
      loss_of(model, batch).backward();
    };
    std::vector<double> t[5];
    for (int r = -2; r < rounds; ++r) {
      const double s[5] = {seconds([&] { plain_step(plain); }), seconds([&] { fp32.step(batch, true); }),
                           seconds([&] { fp32.step(batch, false); }), seconds([&] { plain_step(plain_bf16); }),
                           seconds([&] { bf16.step(batch, true); })};
      for (int i = 0; r >= 0 && i < 5; ++i) t[i].push_back(s[i]);
    }
    double rate[5];
    for (int i = 0; i < 5; ++i) rate[i] = static_cast<double>(samples * length) / median(t[i]);
    std::printf("%-10ld %12.0f %12.0f %12.0f %12.0f %12.0f   %10.2f %10.2f\n", samples * length, rate[0], rate[1], rate[2], rate[3],
                rate[4], rate[1] / rate[0], rate[4] / rate[1]);
  }
}
