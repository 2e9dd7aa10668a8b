#include "offload/low_rank.h"

#include <algorithm>

#include "base/error.h"
#include "offload/flat_math.h"

namespace zerostep {

void check_low_rank(const ParameterPiece& piece, const NoiseSource& noise) {
  if (noise.rank < 1 || noise.rank > std::min(piece.rows, piece.columns)) {
    fail_protocol("low rank: rank {} of a [{}, {}] tensor, expected 1 to {}", noise.rank, piece.rows, piece.columns,
                  std::min(piece.rows, piece.columns));
  }
  if (noise.refresh == 0) fail_protocol("low rank: V is refreshed every 0 steps");
  if (piece.begin < 0 || piece.count < 0 || piece.count > piece.rows * piece.columns - piece.begin) {
    fail_protocol("low rank: elements [{}, {} + {}) of a [{}, {}] tensor", piece.begin, piece.begin, piece.count, piece.rows,
                  piece.columns);
  }
  check_noise_range(low_rank_u_key(noise, noise.key.stream), piece.first, piece.rows * piece.columns);
}

}  // namespace zerostep
