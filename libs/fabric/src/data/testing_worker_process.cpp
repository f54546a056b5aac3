#include "testing_worker_process.hpp"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>

#include "testing_calls.hpp"

namespace conclave::fabric::testing {

namespace {

enum class Verb : std::uint8_t { kStart, kKill };

struct Order {
  Verb verb = Verb::kStart;
  DataSettings settings;
  std::array<char, 256> keys{};
  std::array<char, 256> address{};
};
static_assert(std::is_trivially_copyable_v<Order>);

struct Report {
  pid_t process = -1;
  std::array<char, 256> address{};
};

void copy_text(std::array<char, 256>& to, const std::string& from) {
  ASSERT_LT(from.size(), to.size());
  std::memcpy(to.data(), from.data(), from.size());
}

[[noreturn]] void work(const Order& order, int channel) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  TestContext context(KeyRing::load(order.keys.data(), wire::NodeRole::kExpertWorker).value());
  const auto server = CallServer::create(context.get(), "worker-1",
                                         static_cast<std::uint64_t>(::getpid()), order.settings, {})
                          .value();
  Report report{::getpid(), {}};
  copy_text(report.address, server->listen(order.address.data()).value());
  if (::write(channel, &report, sizeof report) != sizeof report) ::_exit(1);
  for (;;) {
    for (IncomingCall* call : server->poll(std::chrono::steady_clock::time_point::max())) {
      if (call->call.layer != WorkerProcess::kSilentLayer) compute_and_answer(*server, *call);
    }
  }
}

[[noreturn]] void serve_orders(int channel) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pid_t worker = -1;
  for (Order order; ::read(channel, &order, sizeof order) == sizeof order;) {
    if (order.verb == Verb::kStart) {
      worker = ::fork();
      if (worker == 0) work(order, channel);
      continue;  // the worker reports for itself
    }
    ::kill(worker, SIGKILL);
    ::waitpid(worker, nullptr, 0);
    const Report gone;
    if (::write(channel, &gone, sizeof gone) != sizeof gone) break;
  }
  ::_exit(0);
}

Report ask(int channel, const Order& order) {
  EXPECT_EQ(::write(channel, &order, sizeof order), static_cast<ssize_t>(sizeof order));
  Report report;
  EXPECT_EQ(::read(channel, &report, sizeof report), static_cast<ssize_t>(sizeof report));
  return report;
}

}  // namespace

WorkerProcess::WorkerProcess() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  channel_ = Descriptor(ends[0]);
  const Descriptor other(ends[1]);
  starter_ = ::fork();
  EXPECT_GE(starter_, 0);
  if (starter_ == 0) {
    channel_.reset();
    serve_orders(ends[1]);
  }
}

WorkerProcess::~WorkerProcess() {
  if (worker_ > 0) kill();
  channel_.reset();
  ::waitpid(starter_, nullptr, 0);
}

std::string WorkerProcess::start(const std::string& keys, const std::string& address,
                                 const DataSettings& settings) {
  Order order{Verb::kStart, settings, {}, {}};
  copy_text(order.keys, keys);
  copy_text(order.address, address);
  const Report report = ask(channel_.get(), order);
  worker_ = report.process;
  return report.address.data();
}

void WorkerProcess::signal(int number) const { ::kill(worker_, number); }

void WorkerProcess::kill() {
  ask(channel_.get(), {Verb::kKill, {}, {}, {}});
  worker_ = -1;
}

}  // namespace conclave::fabric::testing
