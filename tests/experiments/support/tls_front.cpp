#include "tests/experiments/support/tls_front.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>
#include <vector>

#include "base/file_descriptor.h"

namespace zerostep::testing {
namespace {

// CERTIFICATE KEY PORT: prints its own port. Each connection has answers one after the other, each with a Content-Length.
constexpr const char* kScript = R"python(
import re, socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

def head_of(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    return head

def serve(connection):
    try:
        with context.wrap_socket(connection, server_side=True) as outer, socket.create_connection(("127.0.0.1", int(sys.argv[3]))) as inner:
            asks, answers = outer.makefile("rb"), inner.makefile("rb")
            while question := head_of(asks):
                inner.sendall(question)
                head = head_of(answers)
                outer.sendall(head + answers.read(int(re.search(rb"(?i)content-length: *(\d+)", head)[1])))
    except OSError:
        pass

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
)python";

pid_t start_program(std::vector<std::string> words, int output) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error(words[0] + " cannot be started");
  return pid;
}

}  // namespace

TlsFront::TlsFront(const std::string& folder, const std::string& certified_address, const std::string& plain_url)
    : certificate_(folder + "/certificate.pem") {
  const std::string key = folder + "/key.pem", port = plain_url.substr(plain_url.rfind(':') + 1);
  const FileDescriptor null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  const pid_t openssl =
      start_program({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                     certificate_, "-days", "2", "-subj", "/CN=zerostep", "-addext", "subjectAltName=IP:" + certified_address},
                    null.get());
  int status = 0;
  if (::waitpid(openssl, &status, 0) != openssl || status != 0) throw std::runtime_error("openssl has made no certificate");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const FileDescriptor here(ends[0]);
  {
    const FileDescriptor there(ends[1]);
    process_ = start_program({"python3", "-c", kScript, certificate_, key, port}, there.get());
  }
  std::string line;
  for (char c; ::read(here.get(), &c, 1) == 1 && c != '\n';) line += c;
  if (line.empty()) throw std::runtime_error("python3 serves no TLS");
  url_ = "https://127.0.0.1:" + line;
}

TlsFront::~TlsFront() {
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

}  // namespace zerostep::testing
