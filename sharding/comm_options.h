#pragma once

namespace zerostep {

struct CommOptions {
  double timeout_seconds = 600;  // run.collective_timeout_seconds
};

}  // namespace zerostep
