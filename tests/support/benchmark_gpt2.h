#pragma once
#include "models/gpt2/gpt2.h"

namespace zerostep::testing {

// 8 layers, 512 wide, 25.6 M parameters.
inline Gpt2Options benchmark_gpt2() {
  return {.n_layer = 8,
          .n_embd = 512,
          .n_head = 8,
          .n_positions = 256,
          .vocab_size = 257,
          .resid_pdrop = 0,
          .embd_pdrop = 0,
          .attn_pdrop = 0,
          .tie_word_embeddings = false};
}

}  // namespace zerostep::testing
