#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace zerostep {

// A token among the keys that a model's options carry from one config.json to the next (Gpt2Options::carried): nothing where it is not
// there, or no token (-1 stands for none in some files).
std::optional<int32_t> carried_token(const std::string& carried, const char* key);

}  // namespace zerostep
