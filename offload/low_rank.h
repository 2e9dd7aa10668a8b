#pragma once
#include "offload/flat_operands.h"

namespace zerostep {

// ProtocolError where a matrix has no direction of the source's rank, or not the piece, or where the noise does not reach.
void check_low_rank(const ParameterPiece& piece, const NoiseSource& noise);

}  // namespace zerostep
