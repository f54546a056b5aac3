#include "testing_redis.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <string_view>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::quota::testing {
namespace {

constexpr const char* kProgram = "/usr/bin/redis-server";  // packages/test.txt
constexpr int kStepMs = 5;
constexpr int kPatienceMs = 30'000;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool is_taken(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = loopback(port);
  const bool connected = ::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
  ::close(socket);
  return connected;
}

}  // namespace

std::uint16_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at = loopback(0);
  socklen_t size = sizeof(at);
  CONCLAVE_CHECK(::bind(socket, reinterpret_cast<sockaddr*>(&at), size) == 0);
  CONCLAVE_CHECK(::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  ::close(socket);
  return ntohs(at.sin_port);
}

TestRedis::TestRedis(std::string password) : password_(std::move(password)), port_(free_port()) {
  start();
}

TestRedis::~TestRedis() { kill(); }

void TestRedis::start() {
  if (server_ != 0) return;
  CONCLAVE_CHECK(::access(kProgram, X_OK) == 0);
  std::vector<std::string> words{kProgram, "--port", std::to_string(port_), "--bind", "127.0.0.1",
                                 "--save", "",       "--appendonly",        "no",     "--dir",
                                 "/tmp"};
  if (!password_.empty()) words.insert(words.end(), {"--requirepass", password_});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  server_ = ::fork();
  CONCLAVE_CHECK(server_ >= 0);
  if (server_ == 0) {
    ::setsid();  // a Ctrl-C is ours
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (::getppid() != parent || null < 0 || ::dup2(null, 0) < 0 || ::dup2(null, 1) < 0 ||
        ::dup2(null, 2) < 0) {
      ::_exit(126);
    }
    ::close_range(3, ~0u, 0);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  for (int waited = 0; !is_taken(port_); waited += kStepMs) {
    CONCLAVE_CHECK(waited < kPatienceMs && ::waitpid(server_, nullptr, WNOHANG) == 0);
    ::poll(nullptr, 0, kStepMs);
  }
}

void TestRedis::kill() {
  if (server_ == 0) return;
  ::kill(server_, SIGKILL);
  ::waitpid(std::exchange(server_, 0), nullptr, 0);
}

void TestRedis::hang() { ::kill(server_, SIGSTOP); }
void TestRedis::go_on() { ::kill(server_, SIGCONT); }

void TestRedis::tell(const std::string& command) const {
  const std::string line = command + "\r\n";
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = loopback(port_);
  CONCLAVE_CHECK(::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0);
  CONCLAVE_CHECK(::send(socket, line.data(), line.size(), MSG_NOSIGNAL) ==
                 static_cast<ssize_t>(line.size()));
  char reply[3] = {};
  CONCLAVE_CHECK(::recv(socket, reply, sizeof(reply), MSG_WAITALL) == sizeof(reply));
  CONCLAVE_CHECK(std::string_view(reply, sizeof(reply)) == "+OK");
  ::close(socket);
}

TestRedis& shared_redis() {
  static TestRedis redis;
  return redis;
}

std::function<void(bool, const std::string&)> Watch::listener() {
  return [shared = shared_](bool up, const std::string& why) {
    const std::lock_guard lock(shared->mutex);
    shared->is_known = true;
    shared->up = up;
    if (!up) shared->why = why;
    shared->changed.notify_all();
  };
}

bool Watch::wait(bool up) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, kPatience,
                                   [&] { return shared_->is_known && shared_->up == up; });
}

std::string Watch::why() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->why;
}

base::Result<Counts> taken(Store& store, const Ask& ask) {
  const auto promise = std::make_shared<std::promise<base::Result<Counts>>>();
  auto answer = promise->get_future();
  store.take(ask,
             [promise](base::Result<Counts> counts) { promise->set_value(std::move(counts)); });
  CONCLAVE_CHECK(answer.wait_for(kPatience) == std::future_status::ready);
  return answer.get();
}

}  // namespace conclave::quota::testing
