// Formulas of the element-wise optimizers: templates over a lane type L, which is one float or a vector of them, with set, add, sub, mul,
// div, sqrt, fma and sign. Each is one fixed sequence of IEEE operations, so that every lane type gives the same bits.
// update<L>(p, g, state...) -> the new master, states in place; frozen(): masters keep their bits. Coefficients are rounded to fp32 once.
//
// The file has neither guard nor namespace: who compiles the formulas includes it in a namespace of its own, once for each instruction set
// or device, and says with ZEROSTEP_LANE_FUNCTION what functions over lanes are marked with there.
#ifndef ZEROSTEP_LANE_FUNCTION
#error "ZEROSTEP_LANE_FUNCTION: HWY_INLINE, __host__ __device__ inline, or inline"
#endif

template <bool kDecoupled>
struct Adam {
  static constexpr int kStates = 2;
  float weight_decay, decay, weight1, beta2, weight2, eps, inv_sqrt_correction, minus_step;

  Adam(const OptimizerPiece& piece, const AdamParameters& p)
      : weight_decay(piece.weight_decay),
        decay(static_cast<float>(1.0 - double{piece.lr} * double{piece.weight_decay})),
        weight1(static_cast<float>(1.0 - p.beta1)),
        beta2(static_cast<float>(p.beta2)),
        weight2(static_cast<float>(1.0 - p.beta2)),
        eps(static_cast<float>(p.eps)),
        inv_sqrt_correction(static_cast<float>(p.inv_sqrt_bias_correction2)),
        minus_step(static_cast<float>(-p.step_size)) {}
  bool frozen() const { return minus_step == 0 && (!kDecoupled || decay == 1); }

  template <class L, class V = typename L::V>
  ZEROSTEP_LANE_FUNCTION V update(V p, V g, V& m, V& v) const {
    if constexpr (!kDecoupled) g = L::fma(L::set(weight_decay), p, g);
    m = L::fma(L::set(weight1), L::sub(g, m), m);
    v = L::fma(L::mul(L::set(weight2), g), g, L::mul(L::set(beta2), v));
    const V denominator = L::fma(L::sqrt(v), L::set(inv_sqrt_correction), L::set(eps));
    if constexpr (kDecoupled) p = L::mul(p, L::set(decay));
    return L::fma(L::set(minus_step), L::div(m, denominator), p);
  }
};

struct Sgd {
  static constexpr int kStates = 0;
  float weight_decay, minus_lr;

  explicit Sgd(const OptimizerPiece& piece) : weight_decay(piece.weight_decay), minus_lr(-piece.lr) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  ZEROSTEP_LANE_FUNCTION V update(V p, V g) const {
    return L::fma(L::set(minus_lr), L::fma(L::set(weight_decay), p, g), p);
  }
};

struct SgdMomentum {
  static constexpr int kStates = 1;
  float weight_decay, minus_lr, momentum, dampened;
  bool is_first, is_nesterov;

  SgdMomentum(const OptimizerPiece& piece, const SgdParameters& p)
      : weight_decay(piece.weight_decay),
        minus_lr(-piece.lr),
        momentum(static_cast<float>(p.momentum)),
        dampened(static_cast<float>(1.0 - p.dampening)),
        is_first(p.first_step),
        is_nesterov(p.nesterov) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  ZEROSTEP_LANE_FUNCTION V update(V p, V g, V& buffer) const {
    g = L::fma(L::set(weight_decay), p, g);
    buffer = is_first ? g : L::fma(L::set(momentum), buffer, L::mul(L::set(dampened), g));
    const V direction = is_nesterov ? L::fma(L::set(momentum), buffer, g) : buffer;
    return L::fma(L::set(minus_lr), direction, p);
  }
};

struct Lion {
  static constexpr int kStates = 1;
  float decay, minus_lr, weight1, weight2;

  Lion(const OptimizerPiece& piece, const LionParameters& p)
      : decay(static_cast<float>(1.0 - double{piece.lr} * double{piece.weight_decay})),
        minus_lr(-piece.lr),
        weight1(static_cast<float>(1.0 - p.beta1)),
        weight2(static_cast<float>(1.0 - p.beta2)) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  ZEROSTEP_LANE_FUNCTION V update(V p, V g, V& m) const {
    const V difference = L::sub(g, m);
    const V direction = L::sign(L::fma(L::set(weight1), difference, m));
    m = L::fma(L::set(weight2), difference, m);
    return L::fma(L::set(minus_lr), direction, L::mul(p, L::set(decay)));
  }
};
