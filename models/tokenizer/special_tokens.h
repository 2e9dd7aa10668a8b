#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/tokenizer/added_tokens.h"

namespace zerostep {

// What tokenizer_config.json, special_tokens_map.json and added_tokens.json in the folder of a vocabulary say of tokens.
struct SpecialTokens {
  nlohmann::json config = nlohmann::json::object();  // tokenizer_config.json
  std::map<std::string, std::string> roles;          // "eos_token": its text
  std::vector<AddedToken> tokens;                    // each text once; id -1 where only the vocabulary says it

  // The text of a role, or `otherwise`.
  std::string role(const char* name, const char* otherwise) const;
  // Takes a special token in where none of its text is there.
  void add(const std::string& content);
};
// Of the folder in which the file at `path` lies. InputError naming the file that is malformed.
SpecialTokens special_tokens_beside(const std::string& path);

}  // namespace zerostep
