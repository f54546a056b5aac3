#include "host_names.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// A name server that answers when it is told to.
class NameServer {
 public:
  HostNames::Lookup lookup() {
    return [state = state_](const std::string& host) { return state->answer(host); };
  }
  void answers(base::Result<std::string> answer) {
    const std::lock_guard lock(state_->mutex);
    state_->next = std::move(answer);
    state_->changed.notify_all();
  }
  /// Lookups wait from now on.
  void hangs() {
    const std::lock_guard lock(state_->mutex);
    state_->next.reset();
  }
  ~NameServer() { answers("127.0.0.9"); }
  [[nodiscard]] int asked() const { return state_->asked; }

 private:
  struct State {
    base::Result<std::string> answer(const std::string&) {
      ++asked;
      std::unique_lock lock(mutex);
      changed.wait(lock, [this] { return next.has_value(); });
      return *next;
    }
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<base::Result<std::string>> next;
    std::atomic<int> asked = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// Asks, as links do, until something is known.
base::Result<std::string> wait_for(HostNames& names, const std::string& address) {
  for (;;) {
    auto answer = names.numeric(address, steady_clock::now());
    if (!answer) return tl::unexpected(answer.error());
    if (*answer) return **answer;
    std::this_thread::yield();
  }
}

TEST(HostNamesTest, LeavesAllThatIsNoName) {
  NameServer server;
  HostNames names(server.lookup());
  for (const char* address :
       {"tcp://10.0.0.1:7600", "ipc:///tmp/x", "inproc://a", "direct://b", "tcp://:1", "tcp://name",
        "tcp://[::1]:5", "tcp://eth0;host:5", "tcp://*:5", "name:5", ""}) {
    EXPECT_EQ(names.numeric(address, steady_clock::now()).value(), address);
    EXPECT_FALSE(HostNames::is_name(address));
  }
  EXPECT_EQ(server.asked(), 0);
}

TEST(HostNamesTest, GivesTheAddressOfAName) {
  NameServer server;
  server.answers("10.1.2.3");
  HostNames names(server.lookup());
  EXPECT_TRUE(HostNames::is_name("tcp://scheduler-0.fleet:7600"));
  EXPECT_EQ(wait_for(names, "tcp://scheduler-0.fleet:7600").value(), "tcp://10.1.2.3:7600");
  // Fresh: nobody is asked again, for whichever port.
  EXPECT_EQ(wait_for(names, "tcp://scheduler-0.fleet:7601").value(), "tcp://10.1.2.3:7601");
  EXPECT_EQ(server.asked(), 1);
}

TEST(HostNamesTest, AsksTheSystem) {
  HostNames names;
  EXPECT_EQ(wait_for(names, "tcp://localhost:1").value(), "tcp://127.0.0.1:1");
  EXPECT_EQ(wait_for(names, "tcp://no-such-host.invalid:1").error().code, ErrorCode::kUnavailable);
}

TEST(HostNamesTest, FollowsANameToAnotherAddress) {
  NameServer server;
  server.answers("10.0.0.1");
  HostNames names(server.lookup());
  EXPECT_EQ(wait_for(names, "tcp://pod:1").value(), "tcp://10.0.0.1:1");
  server.answers("10.0.0.2");
  auto now = steady_clock::now() + HostNames::kFresh;
  auto answer = names.numeric("tcp://pod:1", now);
  while (answer && !*answer) answer = names.numeric("tcp://pod:1", now);
  EXPECT_EQ(answer.value(), "tcp://10.0.0.2:1");
}

TEST(HostNamesTest, ANameServerThatHangsHoldsUpNobody) {
  NameServer server;
  HostNames names(server.lookup());
  const auto now = steady_clock::now();
  EXPECT_EQ(names.numeric("tcp://gone:1", now).value(), std::nullopt);
  EXPECT_EQ(names.numeric("tcp://gone:1", now + HostNames::kPatience).value(), std::nullopt);
  EXPECT_EQ(names.numeric("tcp://other:1", now).value(), std::nullopt);
}

TEST(HostNamesTest, KeepsTheFormerAddressWhileTheNameServerIsAway) {
  NameServer server;
  server.answers("10.0.0.1");
  HostNames names(server.lookup());
  EXPECT_TRUE(wait_for(names, "tcp://pod:1"));

  server.hangs();
  auto now = steady_clock::now() + HostNames::kFresh;
  EXPECT_EQ(names.numeric("tcp://pod:1", now).value(), std::nullopt);
  now += HostNames::kPatience;
  EXPECT_EQ(names.numeric("tcp://pod:1", now).value(), "tcp://10.0.0.1:1");

  server.answers(base::fail(ErrorCode::kUnavailable, "no answer"));
  EXPECT_EQ(wait_for(names, "tcp://pod:1").value(), "tcp://10.0.0.1:1");
}

TEST(HostNamesTest, BoundsLookupsAndNames) {
  NameServer server;
  HostNames names(server.lookup());
  const auto now = steady_clock::now();
  for (std::size_t i = 0; i < HostNames::kNamesMax; ++i) {
    ASSERT_TRUE(names.numeric("tcp://name-" + std::to_string(i) + ":1", now));
  }
  EXPECT_EQ(names.numeric("tcp://one-more:1", now).error().code, ErrorCode::kOverloaded);
  server.answers("10.0.0.1");
  // Those that found no thread get one when they ask again.
  EXPECT_TRUE(wait_for(names, "tcp://name-100:1"));
  EXPECT_LE(server.asked(), static_cast<int>(HostNames::kLookupsMax) + 1);
}

}  // namespace
}  // namespace conclave::fabric
