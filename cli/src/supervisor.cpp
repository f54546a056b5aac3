#include "supervisor.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Status;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{200};
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{5'000};
// One that ran for so long did not fall "again".
constexpr std::chrono::seconds kSteady{30};
// A log line of ours is far shorter; a longer one is given out in pieces.
constexpr std::size_t kLineMax = 16384;

std::string system_error(const std::string& what) {
  return what + ": " + std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): one thread
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

sigset_t our_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become(const std::vector<char*>& arguments, int output, pid_t parent) {
  ::setpgid(0, 0);  // Ctrl-C is for the supervisor alone
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);  // it died before prctl
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

Supervisor::Supervisor(std::vector<ChildSpec> children, Hooks hooks) : hooks_(std::move(hooks)) {
  for (ChildSpec& spec : children) children_.push_back({.spec = std::move(spec)});
}

Supervisor::~Supervisor() {
  for (Child& child : children_) {
    if (child.output >= 0) ::close(child.output);
  }
  if (signals_ >= 0) {
    ::close(signals_);
    const sigset_t set = our_signals();
    ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  }
}

pid_t Supervisor::pid(std::string_view name) const {
  for (const Child& child : children_) {
    if (child.spec.name == name) return child.pid;
  }
  return 0;
}

Status Supervisor::open_signals() {
  const sigset_t set = our_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signals_ < 0) return fail(ErrorCode::kUnavailable, system_error("signalfd"));
  return {};
}

Status Supervisor::run(milliseconds patience) {
  patience_ = patience;
  CONCLAVE_TRY_VOID(open_signals());
  Status status = start_due(Clock::now());
  if (!status) ending_ = true;
  while (!ending_ || lowest_running_stage() != std::numeric_limits<int>::max()) {
    const Clock::time_point now = Clock::now();
    if (ending_) {
      end_stages(now);
    } else {
      if (const Status again = start_due(now); !again) {
        status = again;
        ending_ = true;
        continue;
      }
      if (hooks_.tick && !hooks_.tick()) ending_ = true;
    }
    wait(now + kTick);
  }
  return status;
}

Status Supervisor::start_due(Clock::time_point now) {
  for (Child& child : children_) {
    if (child.pid == 0 && child.start_at <= now) CONCLAVE_TRY_VOID(start(child));
  }
  return {};
}

Status Supervisor::start(Child& child) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::kUnavailable, system_error("pipe"));
  }
  ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
  std::vector<char*> arguments;
  for (std::string& argument : child.spec.arguments) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  if (::access(arguments[0], X_OK) != 0) {
    ::close(pipe[0]);
    ::close(pipe[1]);
    return fail(ErrorCode::kUnavailable, system_error(child.spec.arguments[0]));
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(arguments, pipe[1], parent);
  ::close(pipe[1]);
  if (pid < 0) {
    ::close(pipe[0]);
    return fail(ErrorCode::kUnavailable, system_error("fork"));
  }
  if (child.output >= 0) ::close(child.output);
  child.output = pipe[0];
  child.pid = pid;
  child.started = Clock::now();
  return {};
}

void Supervisor::wait(Clock::time_point until) {
  std::vector<pollfd> descriptors{{signals_, POLLIN, 0}};
  std::vector<Child*> readers;
  for (Child& child : children_) {
    if (child.output < 0) continue;
    descriptors.push_back({child.output, POLLIN, 0});
    readers.push_back(&child);
  }
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
  const int timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, kTick.count()));
  if (::poll(descriptors.data(), descriptors.size(), timeout) <= 0) return;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    if (descriptors[i + 1].revents != 0) read_output(*readers[i]);
  }
  if (descriptors[0].revents != 0) take_signal();
}

void Supervisor::read_output(Child& child) {
  std::array<char, 65536> chunk{};
  const ssize_t got = ::read(child.output, chunk.data(), chunk.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    if (!child.partial.empty() && hooks_.line) hooks_.line(child.spec.name, child.partial);
    child.partial.clear();
    ::close(child.output);
    child.output = -1;
    return;
  }
  child.partial.append(chunk.data(), static_cast<std::size_t>(got));
  std::size_t begin = 0;
  for (;;) {
    std::size_t end = child.partial.find('\n', begin);
    if (end == std::string::npos && child.partial.size() - begin < kLineMax) break;
    if (end == std::string::npos) end = begin + kLineMax - 1;
    if (hooks_.line) {
      hooks_.line(child.spec.name, std::string_view(child.partial).substr(begin, end - begin));
    }
    begin = end + 1;
  }
  child.partial.erase(0, begin);
}

void Supervisor::take_signal() {
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGCHLD) {
      reap();
    } else if (ending_) {
      for (const Child& child : children_) {
        if (child.pid != 0) ::kill(child.pid, SIGKILL);
      }
    } else {
      ending_ = true;
    }
  }
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
       pid = ::waitpid(-1, &status, WNOHANG)) {
    for (Child& child : children_) {
      if (child.pid == pid) ended(child, status);
    }
  }
}

void Supervisor::ended(Child& child, int status) {
  if (child.output >= 0) read_output(child);
  child.pid = 0;
  if (ending_) return;
  const Clock::time_point now = Clock::now();
  child.falls = now - child.started >= kSteady ? 0 : child.falls;
  const milliseconds pause = std::min(kLongestPause, kFirstPause * (1 << std::min(child.falls, 6)));
  ++child.falls;
  child.start_at = now + pause;
  if (hooks_.fell) hooks_.fell(child.spec.name, how_it_ended(status), pause);
}

int Supervisor::lowest_running_stage() const {
  int lowest = std::numeric_limits<int>::max();
  for (const Child& child : children_) {
    if (child.pid != 0) lowest = std::min(lowest, child.spec.stage);
  }
  return lowest;
}

void Supervisor::end_stages(Clock::time_point now) {
  const int stage = lowest_running_stage();
  if (stage == std::numeric_limits<int>::max()) return;
  if (stage != stage_ending_) {
    stage_ending_ = stage;
    kill_at_ = now + patience_;
    kill_stage(stage, SIGTERM);
  } else if (now >= kill_at_) {
    kill_stage(stage, SIGKILL);
  }
}

void Supervisor::kill_stage(int stage, int signal) {
  for (const Child& child : children_) {
    if (child.pid != 0 && child.spec.stage == stage) ::kill(child.pid, signal);
  }
}

}  // namespace conclave::cli
