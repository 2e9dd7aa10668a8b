#include "base/program_name.h"

namespace zerostep {
namespace {

std::string& name() {
  static std::string name = "zerostep";
  return name;
}

}  // namespace

const std::string& program_name() { return name(); }
void set_program_name(const std::string& called) { name() = shell_word(called); }

std::string as_called(std::string_view text) {
  constexpr std::string_view kCommand = "zerostep ";
  std::string out;
  for (size_t at; (at = text.find(kCommand)) != std::string_view::npos; text.remove_prefix(at + kCommand.size()))
    out += std::string(text.substr(0, at)) + name() + " ";
  return out + std::string(text);
}

std::string shell_word(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,.@%/";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace zerostep
