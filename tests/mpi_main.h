#pragma once
#include "sharding/mpi_session.h"

namespace zerostep::test {

// The session of a test program that mpirun has started.
const MpiSession& mpi_session();

}  // namespace zerostep::test
