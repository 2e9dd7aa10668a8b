#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/json_file.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// The files that load_tokenizer chooses from; its errors.

inline constexpr int64_t kMaxVocabulary = 1 << 24;
// A member of an object; null where it is missing.
const nlohmann::json& json_value(const nlohmann::json& object, const char* key);

// What the post-processor of a tokenizer.json puts around one text. InputError for a kind that is not known.
struct TextTemplate {
  std::vector<int32_t> prefix, suffix;
};
TextTemplate parse_text_template(const std::string& path, const nlohmann::json& file);

// The pairs of model.merges in order of rank, and where each stands, for messages: lists of two tokens, or texts with a space between them.
void for_each_merge(const std::string& path, const nlohmann::json& model,
                    const std::function<void(std::string_view left, std::string_view right, const std::string& where)>& take);

std::unique_ptr<Tokenizer> load_byte_pair_json(const std::string& path, const nlohmann::json& file);
std::unique_ptr<Tokenizer> load_byte_pair_files(const std::string& vocabulary, const std::string& merges);
// SentencePiece's kinds: BPE over characters, and Unigram.
std::unique_ptr<Tokenizer> load_piece_json(const std::string& path, const nlohmann::json& file);
std::unique_ptr<Tokenizer> load_word_piece_json(const std::string& path, const nlohmann::json& file);
std::unique_ptr<Tokenizer> load_word_piece_files(const std::string& vocabulary);

}  // namespace zerostep
