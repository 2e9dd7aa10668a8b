// What a hub lists of a data set.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/json_depth.h"
#include "experiments/fetch/hub.h"

namespace zerostep {
namespace {

using nlohmann::json;

// A hub lists a thousand files a page, of a few hundred bytes each.
constexpr size_t kMostPage = size_t{16} << 20;
constexpr size_t kMostListing = size_t{1} << 30;  // of all pages, with their addresses
constexpr size_t kMostPages = 10000;              // a page without a file is one too
constexpr int64_t kMostBytes = int64_t{1} << 50;  // of all files

// Keeps a text.
class ListingText final : public HttpBody {
 public:
  bool begin(const HttpAnswer&) override {
    text.clear();
    return true;
  }
  bool take(std::string_view part) override {
    text += part;
    return text.size() <= kMostPage;
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

// That page's address: the listing's own with the query of the link, so that no link leads elsewhere. A mirror passes on links of the hub
// that it mirrors.
std::string address_of_page(const std::string& listing, std::string link) {
  link.resize(std::min(link.find('#'), link.size()));
  const size_t query = link.find('?');
  if (query == std::string::npos) throw std::invalid_argument(fmt::format("its next page is '{}', an address without a query", link));
  return listing + link.substr(query);
}

int64_t size_in(const json& entry) {
  const json& size = entry.at("size");
  if (!size.is_number_integer()) throw std::invalid_argument("a size is " + size.dump());
  return size.get<int64_t>();
}

// Nothing: it is no file, or not wanted.
std::optional<HubFile> file_of(const json& entry, const std::function<bool(const std::string& path)>& is_wanted) {
  if (entry.at("type") != "file") return std::nullopt;
  HubFile file;
  file.path = entry.at("path").get<std::string>();
  if (!is_wanted(file.path)) return std::nullopt;
  file.num_bytes = size_in(entry);
  if (entry.contains("lfs") && entry["lfs"].is_object()) {
    file.checksum = entry["lfs"].at("oid").get<std::string>();
    if (entry["lfs"].contains("size")) file.num_bytes = size_in(entry["lfs"]);
  } else {
    file.checksum = entry.at("oid").get<std::string>();
    file.kind = DigestKind::Sha1;
  }
  if (file.checksum.size() != (file.kind == DigestKind::Sha256 ? 64 : 40))
    throw std::invalid_argument(fmt::format("'{}' has no checksum", file.path));
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
  const json about = json::parse(unless_too_deep(text.text), nullptr, false);
  if (!about.is_object())
    fail_run(
        "{} answers something else than JSON about data set '{}': it is no Hugging Face hub, or a page of a proxy on the way to it; "
        "HF_ENDPOINT names the hub",
        url, repository);
  const auto sha = about.find("sha");
  if (sha == about.end() || !sha->is_string() || sha->get_ref<const std::string&>().empty())
    fail_run("{} does not say which commit revision '{}' of data set '{}' is (\"sha\"): HF_ENDPOINT names a hub that does", url, revision,
             repository);
  return sha->get<std::string>();
}

std::vector<HubFile> Hub::files_below(const HubSubject& subject, const std::string& commit,
                                      const std::function<bool(const std::string& path)>& is_wanted) {
  std::string listing = fmt::format("{}/api/datasets/{}/tree/{}", settings_.endpoint, subject.repository, in_address(commit));
  if (!subject.file.empty()) listing += "/" + in_address(subject.file, "/");
  std::string url = listing + "?recursive=true&expand=false";
  std::vector<HubFile> files;
  std::set<std::string> pages;
  size_t listed = 0;
  int64_t bytes = 0;
  while (!url.empty()) {
    ListingText text;
    const HttpAnswer answer = ask(
        subject,
        [&] {
          return HttpRequest{url, {}};
        },
        text);
    try {
      listed += text.text.size() + url.size();
      pages.insert(url);
      if (answer.trouble == HttpTrouble::Stopped || listed > kMostListing || pages.size() > kMostPages)
        throw std::invalid_argument("it has no end");
      for (const json& entry : json::parse(unless_too_deep(text.text))) {
        auto file = file_of(entry, is_wanted);
        if (!file) continue;
        if (file->num_bytes < 0 || file->num_bytes > kMostBytes - bytes)
          throw std::invalid_argument(
              fmt::format("'{}' is of {} bytes, where all files have {} at most", file->path, file->num_bytes, kMostBytes));
        bytes += file->num_bytes;
        files.push_back(std::move(*file));
      }
      const std::string link = next_page(answer.header("link"));
      const std::string next = link.empty() ? "" : address_of_page(listing, link);
      if (pages.contains(next)) throw std::invalid_argument("its next page is one before it, " + next);
      url = next;
    } catch (const std::exception& error) {
      fail_run("{} answers something else than a listing of files: {}", url, error.what());
    }
  }
  return files;
}

std::string Hub::address_of(const std::string& repository, const std::string& commit, const std::string& path) const {
  return fmt::format("{}/datasets/{}/resolve/{}/{}", settings_.endpoint, repository, in_address(commit), in_address(path, "/"));
}

}  // namespace zerostep
