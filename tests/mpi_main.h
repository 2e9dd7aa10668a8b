#pragma once
#include "sharding/communicator.h"

namespace zerostep::test {

// The session of a test program that mpirun has started.
const MpiSession& mpi_session();

}  // namespace zerostep::test
