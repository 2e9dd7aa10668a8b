#include "models/carried_tokens.h"

#include <nlohmann/json.hpp>

namespace zerostep {

std::optional<int32_t> carried_token(const std::string& carried, const char* key) {
  if (carried.empty()) return std::nullopt;
  const nlohmann::json keys = nlohmann::json::parse(carried);
  const auto found = keys.find(key);
  if (found == keys.end() || !found->is_number_integer() || found->get<int64_t>() < 0) return std::nullopt;
  return found->get<int32_t>();
}

}  // namespace zerostep
