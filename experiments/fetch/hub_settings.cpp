#include "experiments/fetch/hub_settings.h"

#include <fcntl.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace zerostep {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string without_blanks(std::string text) {
  const auto is_blank = [](unsigned char c) { return std::isspace(c) != 0; };
  text.erase(std::find_if_not(text.rbegin(), text.rend(), is_blank).base(), text.end());
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_blank));
  return text;
}

std::string token_file() {
  if (const std::string file = variable("HF_TOKEN_PATH"); !file.empty()) return file;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return home + "/token";
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/huggingface/token";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/huggingface/token";
}

// The first line of a file; "": it is empty, or not there.
std::string line_of_token(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open() && (errno == ENOENT || errno == ENOTDIR)) return "";
  std::string text(4096, '\0');
  const ssize_t size = file.is_open() ? ::read(file.get(), text.data(), text.size()) : -1;
  if (size < 0)
    fail_input("cannot read the token in '{}': {}; HF_TOKEN is a token itself, and HF_TOKEN_PATH names another file", path,
               std::strerror(errno));
  text.resize(static_cast<size_t>(size));
  return without_blanks(text.substr(0, text.find('\n')));
}

}  // namespace

HubSettings hub_settings_of_environment() {
  HubSettings out;
  if (std::string endpoint = without_blanks(variable("HF_ENDPOINT")); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://"))
      fail_input("HF_ENDPOINT is '{}': the address of a hub is expected, such as {}", endpoint, out.endpoint);
    out.endpoint = endpoint;
    out.is_endpoint_given = true;
  }
  out.token_file = token_file();
  out.token = without_blanks(variable("HF_TOKEN"));
  out.token_from = "HF_TOKEN";
  if (out.token.empty() && !out.token_file.empty()) {
    out.token = line_of_token(out.token_file);
    out.token_from = out.token_file;
  }
  // It becomes a line of a request.
  const auto is_plain = [](unsigned char c) { return c > ' ' && c < 0x7F; };
  if (!std::all_of(out.token.begin(), out.token.end(), is_plain))
    fail_input("the token of {} holds blanks or other characters that no token has: copy it again from the hub's page of tokens",
               out.token_from);
  return out;
}

}  // namespace zerostep
