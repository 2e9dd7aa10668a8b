#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace zerostep {

// Lines at the end of a terminal that are drawn again in the place of those before: gives what is to be written there.
class LiveLines {
 public:
  std::string draw(const std::vector<std::string>& lines);
  // Takes them away, so that something else can be said; the next ones stand below it.
  std::string clear();
  // Those that are drawn stay; the next ones stand below them.
  void leave() { drawn_ = 0; }

 private:
  size_t drawn_ = 0;
};

}  // namespace zerostep
