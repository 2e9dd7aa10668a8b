#include "launch/fit_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "base/format.h"
#include "base/nth.h"

namespace zerostep {

std::string with_filling(const FitCandidate& candidate) {
  const std::string text = filling_text(candidate.filling);
  return text.empty() ? "" : ", " + text;
}

std::string speed_text(const FitCandidate& c) {
  return fmt::format("{} a step, {} tokens/s, bound by {}", human_step_time(c.step_seconds), human_count(c.tokens_per_second), c.bound_by);
}

std::string options_text(const FitResult& result, const FitCandidate& candidate) {
  std::string out = result.option(candidate, FitDimension::Placement).name;
  for (const FitDimension d : kWithinPlacements)
    if (nth(result.dimensions, d).size() > 1 && has_effect(result, candidate, d)) out += ", " + result.option(candidate, d).name;
  return out + with_filling(candidate);
}

std::string reason_text(const FitResult& result, const FitCandidate& c) {
  if (!c.fits()) return lacking_text(c);
  const FitCandidate& best = nth(result.candidates, result.best);
  if (&c == &best) return "the best";
  const double less = 100 * (1 - c.tokens_per_second / best.tokens_per_second);
  return less < 1 ? "as fast within 1 %, and less simple" : fmt::format("{:.0f} % fewer tokens a second, bound by {}", less, c.bound_by);
}

std::string nowhere_text(const FitResult& result, const std::string& file, int world, const std::string& where) {
  const FitCandidate& nearest = *result.placements().front();
  std::vector<std::string> missing;
  for (const auto& [tier, bytes] :
       {std::pair("device memory", nearest.lacks.device), {"host memory", nearest.lacks.host}, {"files", nearest.lacks.file}})
    if (bytes > 0) missing.push_back(fmt::format("{} bytes of {} ({})", grouped(bytes), tier, human_bytes(bytes)));
  const std::string reserve = nearest.lacks.device > 0
                                  ? fmt::format(" beside the {:.0f} % of device memory that are left to libraries", 100 * kShareOfLibraries)
                                  : "";
  std::string out = fmt::format("{} fits on {} of {} in no way that was tried. Nearest is {}: a rank lacks {}{}. What helps: more ranks",
                                file, counted(world, "rank"), where, options_text(result, nearest), fmt::join(missing, ", "), reserve);
  if (!result.why_no_files.empty()) out += fmt::format("; files ({})", result.why_no_files);
  if (!result.kept.empty()) out += fmt::format("; \"auto\" for what the file gives ({})", fmt::join(result.kept, ", "));
  return out;
}

}  // namespace zerostep
