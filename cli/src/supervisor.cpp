#include "supervisor.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Result;
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
constexpr std::size_t kReadBytes = 65536;
// What a dead child has left in its pipe: a pipe holds 64 KiB, and 1 MiB at most.
constexpr int kLastReads = 16;
// As all programs of this project use it.
constexpr int kExitUsage = 2;
constexpr int kNoStage = std::numeric_limits<int>::max();

std::string because(int number) {
  return std::strerror(number);  // NOLINT(concurrency-mt-unsafe): its text is constant
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

// Blocked, a signal is read even if it is ignored: one that nohup or a shell's `&` has turned off
// stays out.
bool is_ignored(int signal) {
  struct sigaction action {};
  ::sigaction(signal, nullptr, &action);
  return action.sa_handler == SIG_IGN;
}

sigset_t signals_to_take() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGTERM}) sigaddset(&set, signal);
  for (const int signal : {SIGINT, SIGHUP}) {
    if (!is_ignored(signal)) sigaddset(&set, signal);
  }
  return set;
}

struct Pipe {
  Descriptor read;
  Descriptor write;

  static Result<Pipe> open() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      return fail(ErrorCode::kUnavailable, "pipe: " + because(errno));
    }
    return Pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  }
};

// What a child becomes, as exec takes it: made before the fork.
struct Image {
  explicit Image(ChildSpec& spec) : end_signal(spec.end_signal) {
    for (std::string& argument : spec.arguments) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    // The first of a name is the one that getenv finds.
    for (std::string& variable : spec.environment) environment.push_back(variable.data());
    for (char** variable = environ; *variable != nullptr; ++variable) {
      environment.push_back(*variable);
    }
    environment.push_back(nullptr);
  }

  std::vector<char*> arguments;
  std::vector<char*> environment;
  int end_signal;
};

// In the child, between fork and exec: only calls that are safe there. `report` gets the number of
// the error that keeps the program from starting; exec closes it.
[[noreturn]] void become(const Image& image, int output, int report, pid_t parent) {
  ::setpgid(0, 0);  // Ctrl-C is for the supervisor alone
  ::prctl(PR_SET_PDEATHSIG, image.end_signal);
  if (::getppid() != parent) ::_exit(1);  // it died before prctl
  // What is ignored stays ignored over exec: SIGPIPE here, SIGINT below `nohup` and in jobs of
  // scripts.
  for (int signal = 1; signal < __SIGRTMIN; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  // Also what threads of the supervisor have just opened.
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::execve(image.arguments[0], image.arguments.data(), image.environment.data());
  const int problem = errno;
  [[maybe_unused]] const auto written = ::write(report, &problem, sizeof problem);
  ::_exit(127);
}

// 0 when exec has closed the other end, else what kept it from starting.
int problem_of(const Descriptor& report) {
  int problem = 0;
  ssize_t got = 0;
  do {
    got = ::read(report.get(), &problem, sizeof problem);
  } while (got < 0 && errno == EINTR);
  return got == static_cast<ssize_t>(sizeof problem) ? problem : 0;
}

}  // namespace

Supervisor::Supervisor(std::vector<ChildSpec> children, Hooks hooks) : hooks_(std::move(hooks)) {
  for (ChildSpec& spec : children) {
    Child& child = children_.emplace_back();
    child.spec = std::move(spec);
  }
  // Ignored by whoever started us, children would vanish without a status.
  ::signal(SIGCHLD, SIG_DFL);
  taken_ = signals_to_take();
  ::pthread_sigmask(SIG_BLOCK, &taken_, &mask_before_);
}

Supervisor::~Supervisor() {
  // One that came at the very end has had its wish.
  const timespec now{};
  while (::sigtimedwait(&taken_, nullptr, &now) > 0) {
  }
  ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

pid_t Supervisor::pid(std::string_view name) const {
  for (const Child& child : children_) {
    if (child.spec.name == name) return child.pid;
  }
  return 0;
}

Status Supervisor::run(milliseconds patience) {
  patience_ = patience;
  signals_ = Descriptor(::signalfd(-1, &taken_, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_.is_open()) return fail(ErrorCode::kUnavailable, "signalfd: " + because(errno));
  for (;;) {
    const Clock::time_point now = Clock::now();
    if (!ending_) start_due(now);
    if (!ending_ && hooks_.tick) hooks_.tick();
    if (ending_) {
      if (lowest_running_stage() == kNoStage) return result_;
      end_stages(now);
    }
    wait(next_start(now + kTick));
  }
}

void Supervisor::end() {
  if (std::exchange(ending_, true)) return;
  if (hooks_.ending) hooks_.ending();
}

void Supervisor::give_up(std::string message) {
  if (ending_) return;
  result_ = fail(ErrorCode::kUnavailable, std::move(message));
  end();
}

void Supervisor::start_due(Clock::time_point now) {
  for (Child& child : children_) {
    if (child.pid != 0 || child.start_at > now) continue;
    const Status started = start(child);
    if (started) continue;
    if (!settled_) return give_up(started.error().message);
    fall(child, started.error().message);
  }
}

Status Supervisor::start(Child& child) {
  CONCLAVE_TRY(Pipe output, Pipe::open());
  CONCLAVE_TRY(Pipe report, Pipe::open());
  ::fcntl(output.read.get(), F_SETFL, O_NONBLOCK);
  const Image image(child.spec);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(image, output.write.get(), report.write.get(), parent);
  if (pid < 0) return fail(ErrorCode::kUnavailable, "fork: " + because(errno));
  report.write.close();
  if (const int problem = problem_of(report.read); problem != 0) {
    ::waitpid(pid, nullptr, 0);
    return fail(ErrorCode::kUnavailable, child.spec.arguments[0] + ": " + because(problem));
  }
  child.output = std::move(output.read);
  child.pid = pid;
  child.started = Clock::now();
  return {};
}

Supervisor::Clock::time_point Supervisor::next_start(Clock::time_point latest) const {
  if (ending_) return latest;
  for (const Child& child : children_) {
    if (child.pid == 0) latest = std::min(latest, child.start_at);
  }
  return latest;
}

void Supervisor::wait(Clock::time_point until) {
  std::vector<pollfd> descriptors{{signals_.get(), POLLIN, 0}};
  std::vector<Child*> readers;
  for (Child& child : children_) {
    if (!child.output.is_open()) continue;
    descriptors.push_back({child.output.get(), POLLIN, 0});
    readers.push_back(&child);
  }
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
  const int timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, kTick.count()));
  if (::poll(descriptors.data(), descriptors.size(), timeout) <= 0) return;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    if (descriptors[i + 1].revents != 0) read_output(*readers[i]);
  }
  if (descriptors[0].revents != 0) take_signals();
}

// False when there is nothing more now, or ever.
bool Supervisor::read_output(Child& child) {
  std::array<char, kReadBytes> chunk;
  const ssize_t got = ::read(child.output.get(), chunk.data(), chunk.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    if (!child.partial.empty() && hooks_.line) hooks_.line(child.spec.name, child.partial);
    child.partial.clear();
    child.output.close();
    return false;
  }
  child.partial.append(chunk.data(), static_cast<std::size_t>(got));
  give_lines(child);
  return true;
}

void Supervisor::give_lines(Child& child) {
  const std::string_view text = child.partial;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = text.find('\n', begin);
    const std::size_t size = std::min(end, text.size()) - begin;
    if (end == std::string_view::npos && size < kLineMax) break;
    const std::string_view line = text.substr(begin, std::min(size, kLineMax));
    if (hooks_.line) hooks_.line(child.spec.name, line);
    begin += line.size() + (line.size() == size && end != std::string_view::npos ? 1 : 0);
  }
  child.partial.erase(0, begin);
}

// Of a child that is gone. Who inherited its pipe may keep it open: that is not waited for.
void Supervisor::drain_output(Child& child) {
  for (int i = 0; i < kLastReads && child.output.is_open() && read_output(child); ++i) {
  }
  if (!child.partial.empty() && hooks_.line) hooks_.line(child.spec.name, child.partial);
  child.partial.clear();
  child.output.close();
}

void Supervisor::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGCHLD) {
      reap();
    } else if (ending_) {
      for (const Child& child : children_) {
        if (child.pid != 0) ::kill(-child.pid, SIGKILL);
      }
    } else {
      end();
    }
  }
}

void Supervisor::reap() {
  for (Child& child : children_) {
    if (child.pid == 0) continue;
    siginfo_t info{};
    const auto id = static_cast<id_t>(child.pid);
    if (::waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) continue;
    // What it has started itself ends with it. Until it is reaped its number is nobody else's.
    ::kill(-child.pid, SIGKILL);
    int status = 0;
    ::waitpid(child.pid, &status, 0);
    ended(child, status);
  }
}

void Supervisor::ended(Child& child, int status) {
  drain_output(child);
  child.pid = 0;
  if (ending_) return;
  if (Clock::now() - child.started >= kSteady) child.falls = 0;
  const std::string how = how_it_ended(status);
  const bool hopeless = WIFEXITED(status) && WEXITSTATUS(status) == kExitUsage;
  if (!settled_ && (hopeless || child.falls + 1 == kFallsMax)) {
    const std::string often =
        hopeless ? "" : " for the " + std::to_string(kFallsMax) + "th time in a row";
    return give_up(child.spec.name + " ended with " + how + often + "; its lines above say why");
  }
  fall(child, how);
}

void Supervisor::fall(Child& child, const std::string& how) {
  const milliseconds pause = std::min(kLongestPause, kFirstPause * (1 << std::min(child.falls, 6)));
  ++child.falls;
  child.start_at = Clock::now() + pause;
  if (hooks_.fell) hooks_.fell(child.spec.name, how, pause);
}

int Supervisor::lowest_running_stage() const {
  int lowest = kNoStage;
  for (const Child& child : children_) {
    if (child.pid != 0) lowest = std::min(lowest, child.spec.stage);
  }
  return lowest;
}

void Supervisor::end_stages(Clock::time_point now) {
  const int stage = lowest_running_stage();
  const bool begins = stage != stage_ending_;
  if (begins) {
    stage_ending_ = stage;
    kill_at_ = now + patience_;
  } else if (now < kill_at_) {
    return;
  }
  for (const Child& child : children_) {
    if (child.pid == 0 || child.spec.stage != stage) continue;
    // The child itself ends what it has started, as long as it is asked.
    if (begins) {
      ::kill(child.pid, child.spec.end_signal);
    } else {
      ::kill(-child.pid, SIGKILL);
    }
  }
}

}  // namespace conclave::cli
