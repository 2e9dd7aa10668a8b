#include "runtime/config/schema.h"

namespace zerostep::schema {
namespace {

constexpr auto H = List::Honoured;

constexpr int64_t kMostQueries = 1 << 20;

const Key kKeys[] = {
    {"step.mode", H, choice("fo|zo|calibrate|instruct|alternating"), "\"fo\"",
     "what turns a batch into an update: backprop, forward passes alone, or a mixture"},
    {"step.scope", H, texts(), "[\"full\"]",
     "what is trained: \"full\"; \"reduced\": the last block's MLP, its LayerNorm and the head; or name patterns"},
    {"step.objective", H, choice("cross_entropy|accuracy"), "\"cross_entropy\"",
     "what the queries of mode zo lower: the loss, or minus the share of tokens predicted right (column loss then says that)"},
    {"step.queries", H, integer(1, kMostQueries), "1", "random directions along which a step probes the loss"},
    {"step.queries_per_pass", H, integer(0, kMostQueries), "0",
     "directions that go through a unit while it is gathered; 0: as many as memory allows"},
    {"step.epsilon", H, number_above(0), "0.001", "length of a probe: the weights move by epsilon times the direction"},
    {"step.estimator", H, choice("central|forward"), "\"central\"", "two-sided differences, or one-sided against the unperturbed loss"},
    {"step.perturbation", H, choice("gaussian|rademacher|low_rank"), "\"gaussian\"", "distribution of the directions"},
    {"step.rank", H, integer(1, 4096), "2", "low_rank: rank of a matrix's direction"},
    {"step.refresh", H, integer(1), "50", "low_rank: steps after which the column factor is drawn anew"},
    {"step.direction_parallel", H, integer(1), "1", "groups of ranks that share the directions out; the data is split within a group"},
    {"step.query_data", H, choice("shared|independent"), "\"shared\"", "one batch for all directions of a step, or one for each"},
    {"step.query_batch_size", H, integer(1, 1000000000), "", "samples of a direction's batch; train_batch_size where it is missing"},
    {"step.query_sequence_length", H, integer(1, 100000000), "", "tokens of a query's sample; data.sequence_length where it is missing"},
    {"step.bp_interval", H, integer(1), "10", "calibrate, instruct: backprop when (step + 1) divides by it"},
    {"step.bp_batch_size", H, integer(1, 1000000000), "", "samples of a backprop step; train_batch_size where it is missing"},
    {"step.bp_data", H, choice("same|own|split"), "\"same\"",
     "where backprop's samples come from: the stream of the queries, data.bp_train, or the first half of data.train (queries: the second)"},
    {"step.bp_lr", H, number(0), "", "alternating: learning rate of the backprop steps; the optimizer's where it is missing"},
    {"step.blend", H, number(0, 1), "0.0", "instruct: share of the backprop gradient in the update"},
    {"step.zo_steps", H, integer(1), "1", "alternating: forward-only steps after each backprop step"},
    {"step.state", H, choice("shared|separate"), "\"shared\"", "alternating: one optimizer state for both kinds of step, or one each"},
    {"step.master_weights", H, choice("fp32|none"), "\"fp32\"", "none: 16-bit weights alone, rounded stochastically (mode zo)"},
    {"step.scalar_transform", H, choice("none|clip|normalise|leave_one_out"), "\"none\"",
     "of a step's projected gradients: cut outliers, divide by their standard deviation, subtract the others' mean"},
    {"step.clip_deviations", H, number_above(0), "3.0", "scalar_transform \"clip\": standard deviations at which a scalar is cut"},
    {"step.exact_norm", H, boolean(), "false",
     "measure the norm of an estimate, by one more pass over its noise; false: take the expected one, which costs nothing"},
    {"step.monitor_interval", H, integer(0), "0",
     "calibrate: every so many backprop steps the queries are made too and their cosine to the gradient is measured; 0: never"},
    {"step.instruct.kind", H, choice("cosine|energy"), "\"cosine\"", "how the gradient instructs the directions"},
    {"step.instruct.cosine", H, number(0, 1), "0.5",
     "cosine of a direction and the gradient; energy: its square is the share of the energy kept"},
    {"step.instruct.noise_scale", H, number(0), "1.0",
     "energy: noise beside the kept entries, in units of the gradient's root mean square"},
    {"step.instruct.schedule.cosine.start", H, number(0, 1), "", "cosine at the first step"},
    {"step.instruct.schedule.cosine.end", H, number(0, 1), "", "cosine at most (or at least), however low the loss"},
    {"step.instruct.schedule.cosine.threshold", H, any_number(), "", "mean of the last 10 losses below which it begins to move"},
    {"step.instruct.schedule.cosine.fall", H, number_above(0), "", "a notch: so much less loss"},
    {"step.instruct.schedule.cosine.increment", H, any_number(), "", "change of a notch"},
    {"step.instruct.schedule.noise_scale.start", H, number(0), "", "noise_scale at the first step"},
    {"step.instruct.schedule.noise_scale.end", H, number(0), "", "noise_scale at most (or at least), however low the loss"},
    {"step.instruct.schedule.noise_scale.threshold", H, any_number(), "", "mean of the last 10 losses below which it begins to move"},
    {"step.instruct.schedule.noise_scale.fall", H, number_above(0), "", "a notch: so much less loss"},
    {"step.instruct.schedule.noise_scale.increment", H, any_number(), "", "change of a notch"},
};

}  // namespace

void add_step_keys(std::vector<Key>& keys) { keys.insert(keys.end(), std::begin(kKeys), std::end(kKeys)); }

}  // namespace zerostep::schema
