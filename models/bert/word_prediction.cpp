#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/mm.h>

#include "models/autograd_node.h"
#include "models/bert/functions.h"
#include "models/parameter_gradient.h"

namespace zerostep::bert {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PredictWords : torch::autograd::Function<PredictWords> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dense, const at::Tensor& dense_bias,
                            const at::Tensor& gain, const at::Tensor& offset, const at::Tensor& words, const at::Tensor& words_bias,
                            double epsilon) {
    const at::Tensor inner = affine(rows_of(x), {dense, dense_bias});
    const Normalised n = normalise(at::gelu(inner), {gain, offset, epsilon});
    context->save_for_backward({x, dense, dense_bias, gain, offset, words, words_bias, inner, n.mean, n.rstd, n.rows});
    context->saved_data["epsilon"] = epsilon;
    return affine(n.rows, {words, words_bias}).view({x.size(0), x.size(1), words.size(0)});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w_dense = saved[1], &w_words = saved[5], &inner = saved[7];
    ParameterGradient dense(w_dense), dense_bias(saved[2]), gain(saved[3]), offset(saved[4]), words(w_words), words_bias(saved[6]);
    at::Tensor g;
    {
      const at::Tensor logits_gradient = gradients[0].reshape({-1, w_words.size(0)});
      words.product(logits_gradient.t(), saved[10]);
      words_bias.row_sum(logits_gradient);
      g = at::mm(logits_gradient, w_words);
    }
    const Norm norm{saved[3], saved[4], context->saved_data["epsilon"].toDouble()};
    at::Tensor inner_gradient = normalise_backward(g, at::gelu(inner), {{}, saved[8], saved[9]}, norm, gain, offset, true);
    at::gelu_backward_out(inner_gradient, inner_gradient, inner);
    dense.product(inner_gradient.t(), rows_of(x));
    dense_bias.row_sum(inner_gradient);
    at::Tensor x_gradient;
    if (x.requires_grad()) x_gradient = at::mm(inner_gradient, w_dense).view(x.sizes());
    return gradients_of({x_gradient}, {dense, dense_bias, gain, offset, words, words_bias}, 1);
  }
};

}  // namespace

at::Tensor predict_words(const at::Tensor& x, const WordPredictionWeights& w) {
  if (records(x, w.dense.weight, w.dense.bias, w.norm.gain, w.norm.offset, w.words.weight, w.words.bias)) {
    return PredictWords::apply(x, w.dense.weight, w.dense.bias, w.norm.gain, w.norm.offset, w.words.weight, w.words.bias, w.norm.epsilon);
  }
  const auto rows = [&] {
    at::Tensor inner = affine(rows_of(x), w.dense);
    return normalise(at::gelu_(inner), w.norm).rows;
  };
  return affine(rows(), w.words).view({x.size(0), x.size(1), w.words.weight.size(0)});
}

}  // namespace zerostep::bert
