#include "models/tokenizer/tokenizer_files.h"

#include "base/error.h"

namespace zerostep {
namespace {

using nlohmann::json;

// ["[SEP]", 102]
int32_t named_token(const std::string& path, const json& processor, const char* key) {
  const json& token = json_value(processor, key);
  if (!token.is_array() || token.size() != 2 || !token[1].is_number_integer())
    fail_input("'{}': post_processor.{} is {}; a token with its id is expected", path, key, token.dump());
  return token[1].get<int32_t>();
}

void append_special(const std::string& path, const json& processor, const json& piece, std::vector<int32_t>& out) {
  const json& name = json_value(piece["SpecialToken"], "id");
  const json& specials = json_value(processor, "special_tokens");
  const json& ids = json_value(json_value(specials, name.is_string() ? name.get_ref<const std::string&>().c_str() : ""), "ids");
  if (!ids.is_array()) fail_input("'{}': post_processor.special_tokens has no ids of {}", path, name.dump());
  for (const json& id : ids) {
    if (!id.is_number_integer()) fail_input("'{}': post_processor.special_tokens has id {} of {}", path, id.dump(), name.dump());
    out.push_back(id.get<int32_t>());
  }
}

void read_processor(const std::string& path, const json& processor, TextTemplate& around) {
  if (processor.is_null()) return;
  const json& type = json_value(processor, "type");
  if (type == "ByteLevel") return;  // moves offsets alone
  if (type == "Sequence") {
    for (const json& part : json_value(processor, "processors")) read_processor(path, part, around);
    return;
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    around.prefix.push_back(named_token(path, processor, "cls"));
    around.suffix.push_back(named_token(path, processor, "sep"));
    return;
  }
  if (type != "TemplateProcessing") {
    fail_input(
        "'{}' has a post-processor of type {}; TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel or a Sequence of them is "
        "expected",
        path, type.dump());
  }
  bool after = false;
  for (const json& piece : json_value(processor, "single")) {
    if (piece.is_object() && piece.contains("SpecialToken")) {
      append_special(path, processor, piece, after ? around.suffix : around.prefix);
    } else if (json_value(json_value(piece, "Sequence"), "id") == "A" && !after) {
      after = true;
    } else {
      fail_input("'{}': post_processor.single has {}; special tokens around one sequence A are expected", path, piece.dump());
    }
  }
}

}  // namespace

const json& json_value(const json& object, const char* key) {
  static const json missing;
  if (!object.is_object()) return missing;
  const auto found = object.find(key);
  return found == object.end() ? missing : *found;
}

void for_each_merge(const std::string& path, const json& model,
                    const std::function<void(std::string_view, std::string_view, const std::string&)>& take) {
  const json& merges = json_value(model, "merges");
  if (!merges.is_array()) fail_input("'{}': model.merges is {}; a list is expected", path, merges.type_name());
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const std::string where = fmt::format("'{}', model.merges[{}]", path, i);
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      take(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), where);
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos) fail_input("{} is {}; two tokens are expected", where, merge.dump());
    take(std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1), where);
  }
}

TextTemplate parse_text_template(const std::string& path, const json& file) {
  TextTemplate around;
  read_processor(path, json_value(file, "post_processor"), around);
  return around;
}

}  // namespace zerostep
