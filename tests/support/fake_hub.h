#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/fetch/digest.h"
#include "tests/support/loopback_server.h"

namespace zerostep {

// A Hugging Face hub on the loopback, whose data sets all have the same files; `change`, where it is set, has the last word on each answer.
// Names that begin with "plain" are outside Git LFS.
class FakeHub {
 public:
  FakeHub() : server_([this](const Asked& asked) { return answer(asked); }) {}

  std::string url() const { return server_.url(); }
  std::vector<Asked> asked() const { return server_.asked(); }
  // Those for the content of files.
  std::vector<Asked> asked_for_files() const {
    std::vector<Asked> out;
    for (const Asked& one : server_.asked())
      if (one.target.find("/resolve/") != std::string::npos) out.push_back(one);
    return out;
  }

  // To be set before the first question, or between questions.
  std::map<std::string, std::string> files;
  std::function<void(const Asked&, Reply&)> change;
  size_t page_size = 1000;
  std::string commit = std::string(40, 'c');

  static std::string sha256(const std::string& text) {
    const auto digest = open_digest(DigestKind::Sha256);
    digest->add(text);
    return digest->hex();
  }

  // As servers of files answer, ranges too.
  static Reply file_reply(const Asked& asked, const std::string& content) {
    Reply reply{.body = content};
    const std::string range = asked.header("range");
    if (!range.starts_with("bytes=")) return reply;
    const size_t from = std::stoul(range.substr(6));
    if (from >= content.size()) return {.status = 416};
    reply.status = 206;
    reply.body = content.substr(from);
    reply.headers.emplace_back(
        "Content-Range", "bytes " + std::to_string(from) + "-" + std::to_string(content.size() - 1) + "/" + std::to_string(content.size()));
    return reply;
  }

 private:
  Reply answer(const Asked& asked) {
    Reply reply = usual(asked);
    if (change) change(asked, reply);
    return reply;
  }

  Reply usual(const Asked& asked) {
    const std::string path = asked.target.substr(0, asked.target.find('?'));
    if (path.starts_with("/api/datasets/") && path.find("/revision/") != std::string::npos)
      return {.body = nlohmann::json{{"id", "o/n"}, {"sha", commit}}.dump()};
    if (path.starts_with("/api/datasets/") && path.find("/tree/" + commit) != std::string::npos) return listing(asked, path);
    const size_t at = path.find("/resolve/" + commit + "/");
    std::string name = at == std::string::npos ? "" : path.substr(at + 50);
    for (size_t space; (space = name.find("%20")) != std::string::npos;) name.replace(space, 3, " ");
    if (!path.starts_with("/datasets/") || !files.contains(name))
      return {.status = 404, .headers = {{"X-Error-Message", "Entry not found"}}, .body = "{}"};
    return file_reply(asked, files.at(name));
  }

  // Pages follow each other by a cursor, as on the hub.
  Reply listing(const Asked& asked, const std::string& path) {
    const std::string below = path.substr(path.find("/tree/") + 6 + commit.size());
    const size_t cursor = asked.target.find("cursor=");
    const size_t first = cursor == std::string::npos ? 0 : std::stoul(asked.target.substr(cursor + 7));
    nlohmann::json entries = nlohmann::json::array();
    for (const auto& [name, content] : files) {
      if (!("/" + name).starts_with(below + "/") && !below.empty()) continue;
      nlohmann::json entry{{"type", "file"}, {"path", name}, {"size", content.size()}, {"oid", std::string(40, '0')}};
      if (name.starts_with("plain")) {
        const auto git = open_digest(DigestKind::Sha1);
        git->add("blob " + std::to_string(content.size()) + '\0' + content);
        entry["oid"] = git->hex();
      } else {
        entry["lfs"] = {{"oid", sha256(content)}, {"size", content.size()}, {"pointerSize", 134}};
      }
      entries.push_back(entry);
    }
    entries.push_back({{"type", "directory"}, {"path", "folder"}, {"oid", std::string(40, '0')}, {"size", 0}});
    Reply reply;
    const size_t last = std::min(entries.size(), first + page_size);
    reply.body = nlohmann::json(std::vector<nlohmann::json>(entries.begin() + static_cast<std::ptrdiff_t>(first),
                                                            entries.begin() + static_cast<std::ptrdiff_t>(last)))
                     .dump();
    if (last < entries.size())
      reply.headers.emplace_back("Link", "<" + url() + path + "?recursive=true&cursor=" + std::to_string(last) + ">; rel=\"next\"");
    return reply;
  }

  LoopbackServer server_;
};

}  // namespace zerostep
