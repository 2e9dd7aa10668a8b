#include "models/tokenizer/special_tokens.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/error.h"
#include "models/json_file.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kRoles = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

json object_beside(const fs::path& folder, const char* name) {
  std::error_code ignored;  // a file that cannot be looked at is reported when it is read
  return fs::exists(folder / name, ignored) ? read_json_object((folder / name).string()) : json::object();
}

// "[SEP]", or {"content": "[SEP]", "lstrip": false, ...}; an empty content where it is neither.
AddedToken token_of(const json& value) {
  AddedToken token;
  token.special = true;
  if (value.is_string()) token.content = value.get<std::string>();
  if (!value.is_object() || !value.contains("content") || !value["content"].is_string()) return token;
  token.content = value["content"].get<std::string>();
  const auto flag = [&](const char* name, bool otherwise) { return value.contains(name) ? value[name] == true : otherwise; };
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  token.special = flag("special", true);
  // special_tokens_map.json and the like give special tokens a "normalized" too. Special tokens are found in a text before it is
  // normalized, so the value says nothing of them.
  token.normalized = !token.special && flag("normalized", true);
  return token;
}

int32_t id_of(const std::string& where, const json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX)
    fail_input("{} is {}; the id of a token, a whole number from 0, is expected", where, value.dump());
  return value.get<int32_t>();
}

class Collector {
 public:
  explicit Collector(SpecialTokens& out) : out_(out) {}

  void take(AddedToken token) {
    if (token.content.empty()) return;
    const auto known =
        std::find_if(out_.tokens.begin(), out_.tokens.end(), [&](const AddedToken& t) { return t.content == token.content; });
    if (known == out_.tokens.end()) {
      out_.tokens.push_back(std::move(token));
    } else if (known->id < 0) {
      known->id = token.id;
    }
  }

  // {"50256": {"content": ...}}
  void take_by_id(const std::string& where, const json& list) {
    if (!list.is_object()) return;
    for (const auto& [id, value] : list.items()) {
      AddedToken token = token_of(value);
      const bool whole = !id.empty() && id.size() < 10 && std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!whole || token.content.empty())
        fail_input("{}: added_tokens_decoder.{} is {}; the id of a token with its content is expected", where, id, value.dump());
      token.id = static_cast<int32_t>(std::stol(id));
      take(std::move(token));
    }
  }

  void take_roles(const json& object) {
    for (const char* role : kRoles) {
      if (!object.contains(role)) continue;
      const AddedToken token = token_of(object[role]);
      if (token.content.empty()) continue;
      out_.roles.emplace(role, token.content);
      take(token);
    }
    for (const char* list : {"additional_special_tokens", "extra_special_tokens"})
      if (object.contains(list) && object[list].is_structured())
        for (const json& value : object[list]) take(token_of(value));
  }

 private:
  SpecialTokens& out_;
};

}  // namespace

std::string SpecialTokens::role(const char* name, const char* otherwise) const {
  const auto found = roles.find(name);
  return found == roles.end() ? otherwise : found->second;
}

void SpecialTokens::add(const std::string& content) { Collector(*this).take({.content = content, .special = true}); }

SpecialTokens special_tokens_beside(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  SpecialTokens out;
  out.config = object_beside(folder, "tokenizer_config.json");
  Collector collector(out);
  // The first that tells of a token says how it is found.
  if (out.config.contains("added_tokens_decoder"))
    collector.take_by_id((folder / "tokenizer_config.json").string(), out.config["added_tokens_decoder"]);
  collector.take_roles(out.config);
  collector.take_roles(object_beside(folder, "special_tokens_map.json"));
  const json added = object_beside(folder, "added_tokens.json");
  for (const auto& [content, id] : added.items())
    collector.take({.id = id_of(fmt::format("{}: '{}'", (folder / "added_tokens.json").string(), content), id),
                    .content = content,
                    .normalized = true});
  return out;
}

}  // namespace zerostep
