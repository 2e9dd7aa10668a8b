// What a hub lists of a data set.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "experiments/fetch/hub.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr size_t kMostListing = size_t{256} << 20;
constexpr int kMostPages = 100000;

// Keeps a text.
class ListingText final : public HttpBody {
 public:
  bool begin(const HttpAnswer&) override {
    text.clear();
    return true;
  }
  bool take(std::string_view part) override {
    text += part;
    return text.size() <= kMostListing;
  }
  std::string text;
};

// One part of an address: what is not a letter, digit or one of -._~ as %XX, but for the characters in `kept`.
std::string in_address(const std::string& text, std::string_view kept = "") {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = (byte < 0x80 && std::isalnum(byte) != 0) || std::string_view("-._~").find(c) != std::string_view::npos;
    if (is_plain || kept.find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

// The address that a header Link names as the next page; "": none.
std::string next_page(const std::string& link) {
  for (size_t at = 0; at < link.size();) {
    const size_t begin = link.find('<', at), end = link.find('>', begin);
    if (begin == std::string::npos || end == std::string::npos) return "";
    const size_t rest = std::min(link.find('<', end), link.size());
    if (link.substr(end, rest - end).find("rel=\"next\"") != std::string::npos) return link.substr(begin + 1, end - begin - 1);
    at = rest;
  }
  return "";
}

std::optional<HubFile> file_of(const json& entry) {
  if (entry.at("type") != "file") return std::nullopt;
  HubFile file;
  file.path = entry.at("path").get<std::string>();
  file.num_bytes = entry.at("size").get<int64_t>();
  if (entry.contains("lfs") && entry["lfs"].is_object()) {
    file.checksum = entry["lfs"].at("oid").get<std::string>();
    file.num_bytes = entry["lfs"].value("size", file.num_bytes);
  } else {
    file.checksum = entry.at("oid").get<std::string>();
    file.kind = DigestKind::Sha1;
  }
  if (file.num_bytes < 0 || file.checksum.size() != (file.kind == DigestKind::Sha256 ? 64 : 40))
    throw std::invalid_argument(fmt::format("'{}' has no checksum or a size below 0", file.path));
  return file;
}

}  // namespace

std::string Hub::commit_of(const std::string& repository, const std::string& revision) {
  ListingText text;
  const std::string url = fmt::format("{}/api/datasets/{}/revision/{}?expand=sha", settings_.endpoint, repository, in_address(revision));
  ask(
      {repository, revision, ""},
      [&] {
        return HttpRequest{url, {}};
      },
      text);
  const json about = json::parse(text.text, nullptr, false);
  if (!about.is_object())
    fail_run(
        "{} answers something else than JSON about data set '{}': it is no Hugging Face hub, or a page of a proxy on the way to it; "
        "HF_ENDPOINT names the hub",
        url, repository);
  const auto sha = about.find("sha");
  return sha != about.end() && sha->is_string() && !sha->get_ref<const std::string&>().empty() ? sha->get<std::string>() : revision;
}

std::vector<HubFile> Hub::files_below(const HubSubject& subject, const std::string& commit, const std::string& folder) {
  std::string url = fmt::format("{}/api/datasets/{}/tree/{}", settings_.endpoint, subject.repository, in_address(commit));
  if (!folder.empty()) url += "/" + in_address(folder, "/");
  url += "?recursive=true&expand=false";
  std::vector<HubFile> files;
  for (int pages = 1; !url.empty(); ++pages) {
    ListingText text;
    const HttpAnswer answer = ask(
        subject,
        [&] {
          return HttpRequest{url, {}};
        },
        text);
    try {
      if (answer.trouble == HttpTrouble::Stopped || pages > kMostPages) throw std::invalid_argument("it has no end");
      for (const json& entry : json::parse(text.text))
        if (auto file = file_of(entry)) files.push_back(std::move(*file));
    } catch (const std::exception& error) {
      fail_run("{} answers something else than a listing of files: {}", url, error.what());
    }
    url = next_page(answer.header("link"));
  }
  return files;
}

std::string Hub::address_of(const std::string& repository, const std::string& commit, const std::string& path) const {
  return fmt::format("{}/datasets/{}/resolve/{}/{}", settings_.endpoint, repository, in_address(commit), in_address(path, "/"));
}

}  // namespace zerostep
