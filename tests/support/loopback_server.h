#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace zerostep {

// A question that a server was asked.
struct Asked {
  std::string method, target;
  std::map<std::string, std::string> headers;  // names in small letters

  std::string header(const std::string& name) const { return headers.contains(name) ? headers.at(name) : ""; }
};

struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  size_t most_bytes = std::string::npos;  // of the body that are sent; then the connection ends
  bool stalls = false;                    // behind them nothing comes, and the connection stays
};

// Answers HTTP on a port of its own of 127.0.0.1 as a function says, each connection on a thread, until it goes.
class LoopbackServer {
 public:
  explicit LoopbackServer(std::function<Reply(const Asked&)> answer) : answer_(std::move(answer)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("no port of the loopback can be opened");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~LoopbackServer() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
      for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
    }
    ended_.notify_all();
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : threads_) thread.join();
    ::close(listener_);
  }
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<Asked> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  void accept_all() {
    for (;;) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      const std::lock_guard lock(mutex_);
      if (ends_) {
        ::close(connection);
        return;
      }
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] {
        std::string buffer;
        while (serve(connection, buffer)) {
        }
        ::shutdown(connection, SHUT_RDWR);
        const std::lock_guard own(mutex_);
        connections_.remove(connection);
        ::close(connection);
      });
    }
  }

  // One question; false: the connection ends.
  bool serve(int connection, std::string& buffer) {
    size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      char part[4096];
      const ssize_t count = ::recv(connection, part, sizeof(part), 0);
      if (count <= 0) return false;
      buffer.append(part, static_cast<size_t>(count));
    }
    const Asked asked = parse(buffer.substr(0, end));
    buffer.erase(0, end + 4);
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(asked);
    }
    const Reply reply = answer_(asked);
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Said\r\n";
    for (const auto& [name, value] : reply.headers) head += name + ": " + value + "\r\n";
    head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n\r\n";
    if (!send_all(connection, head + reply.body.substr(0, reply.most_bytes))) return false;
    std::unique_lock lock(mutex_);
    if (reply.stalls) ended_.wait_for(lock, std::chrono::seconds(20), [&] { return ends_; });
    return reply.most_bytes >= reply.body.size() && !reply.stalls && !ends_;
  }

  static Asked parse(const std::string& head) {
    Asked asked;
    size_t at = std::min(head.find("\r\n"), head.size());
    const std::string first = head.substr(0, at);
    asked.method = first.substr(0, first.find(' '));
    asked.target = first.substr(asked.method.size() + 1, first.rfind(' ') - asked.method.size() - 1);
    while (at < head.size()) {
      const size_t begin = at + 2, end = std::min(head.find("\r\n", begin), head.size());
      const std::string line = head.substr(begin, end - begin);
      std::string name = line.substr(0, line.find(": "));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      asked.headers[name] = line.substr(std::min(line.size(), name.size() + 2));
      at = end;
    }
    return asked;
  }

  static bool send_all(int connection, const std::string& text) {
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t count = ::send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return false;
      sent += static_cast<size_t>(count);
    }
    return true;
  }

  std::function<Reply(const Asked&)> answer_;
  int listener_ = -1, port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  bool ends_ = false;
  std::vector<Asked> asked_;
  std::list<int> connections_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace zerostep
