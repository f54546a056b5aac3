// What becomes of calls when a worker dies, a limit is reached, or the two ends do not agree.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>

#include "testing_calls.hpp"
#include "testing_worker_process.hpp"

namespace conclave::fabric {
namespace {

using namespace testing;
using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using wire::NodeRole;
using Kind = CallEvent::Kind;

// ---- Workers that die ----

class WorkerDeathTest : public ::testing::TestWithParam<Way> {
 protected:
  WorkerProcess process;  // first: it forks
  Ends ends{GetParam()};

  WorkerDeathTest() { ends.server.reset(); }
  DataLinkId link_to_process(const DataSettings& settings) {
    ends.address = process.start(ends.keys.path(), "tcp://127.0.0.1:0", settings);
    return ends.link_up();
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, WorkerDeathTest, ::testing::Values(Way::kShared, Way::kFrames),
                         [](const auto& way) { return name_of(way.param); });

TEST_P(WorkerDeathTest, FailsCallsOnceAndLinksAgainAfterARestart) {
  const DataSettings settings = settings_for(GetParam());
  const DataLinkId link = link_to_process(settings);
  for (std::uint32_t life = 1; life <= 3; ++life) {
    const CallId done = ends.send(link, call_of(3, 128), life);
    EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call_of(3, 128), life));
    wire::ExpertCall silent = call_of(1, 32);
    silent.layer = WorkerProcess::kSilentLayer;
    std::vector<CallId> lost{ends.send(link, silent, 1), ends.send(link, silent, 2)};
    const CallId cancelled = ends.send(link, silent, 3);
    ends.client->cancel(cancelled);

    const auto killed = steady_clock::now();
    process.kill();
    EXPECT_EQ(ends.wait(Kind::kDown).link, link);
    // Long before anything is silent for too long.
    EXPECT_LT(steady_clock::now() - killed, milliseconds(settings.peer_timeout_ms));
    for (int i = 0; i < 2; ++i) {
      const Happened failed = ends.wait(Kind::kFailed);
      EXPECT_EQ(failed.error.code, ErrorCode::kUnavailable);
      EXPECT_EQ(std::erase(lost, failed.call), 1u);
    }
    EXPECT_TRUE(ends.events.empty());
    ends.client->release(done);

    process.start(ends.keys.path(), ends.address, settings);
    EXPECT_EQ(ends.wait(Kind::kUp).link, link);
  }
  EXPECT_EQ(ends.calls_that("ok"), 3);
  EXPECT_EQ(ends.calls_that("unavailable"), 6);
  EXPECT_EQ(links_of(ends.router, "client", road_of(GetParam())), 1);
}

TEST_P(WorkerDeathTest, LeavesAReplyReadableUntilItsRelease) {
  const DataLinkId link = link_to_process(settings_for(GetParam()));
  const wire::ExpertCall call = call_of(4, 2048);
  ends.send(link, call, 5);
  const Happened reply = ends.wait(Kind::kReply);
  process.kill();
  ends.wait(Kind::kDown);
  EXPECT_EQ(floats_of(reply.payload), expected_of(call, 5));
  ends.client->release(reply.call);
}

TEST_P(WorkerDeathTest, NoticesAWorkerThatIsFrozen) {
  DataSettings settings = settings_for(GetParam());
  settings.heartbeat_ms = 50;
  settings.peer_timeout_ms = 200;
  ends.client = CallClient::create(ends.router.get(), "router-1", 200, settings).value();
  const DataLinkId link = link_to_process(settings);
  wire::ExpertCall silent = call_of(1, 32);
  silent.layer = WorkerProcess::kSilentLayer;
  const CallId id = ends.send(link, silent, 1);
  process.signal(SIGSTOP);
  ends.wait(Kind::kDown);
  EXPECT_EQ(ends.wait(Kind::kFailed).call, id);
  process.signal(SIGCONT);
  ends.wait(Kind::kUp);
}

// ---- Memory ----

class SharedRoadTest : public ::testing::Test {
 protected:
  Ends ends{Way::kShared};
};

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
}

TEST_F(SharedRoadTest, HandsOutAllCallsThatWaitAtOnceOldestFirst) {
  const DataLinkId link = ends.link_up();
  std::vector<CallId> sent;
  for (std::uint32_t i = 1; i <= 4; ++i) sent.push_back(ends.send(link, call_of(i, 64), i));
  const auto calls = ends.server->poll(in_good_time());
  ASSERT_EQ(calls.size(), 4u);
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(calls[i]->call.rows, i + 1);
    compute_and_answer(*ends.server, *calls[i]);
  }
  const auto events = ends.client->poll(in_good_time());
  ASSERT_EQ(events.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(events[i].call, sent[i]);
}

TEST_F(SharedRoadTest, DoesNotReuseMemoryThatTheWorkerMayStillWrite) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  const wire::ExpertCall call = call_of(8, 512);
  const auto first = ends.client->prepare(link, call);
  fill(call, first->payload, 1);
  ends.client->send(first->id, {}, steady_clock::now() + milliseconds(1));
  EXPECT_EQ(ends.wait(Kind::kFailed).call, first->id);
  ends.client->release(first->id);
  const auto second = ends.client->prepare(link, call);
  fill(call, second->payload, 2);
  ends.client->send(second->id, {}, in_good_time());
  ends.client->cancel(second->id);

  const auto third = ends.client->prepare(link, call);
  fill(call, third->payload, 3);
  EXPECT_FALSE(overlap(first->payload, third->payload));
  EXPECT_FALSE(overlap(second->payload, third->payload));
  for (std::uint32_t more = 3; more < DataSettings().calls_max; ++more) {
    ASSERT_TRUE(ends.client->prepare(link, call));
  }
  EXPECT_EQ(ends.client->prepare(link, call).error().code, ErrorCode::kOverloaded);

  ASSERT_TRUE(ends.pump([&] { return ends.held.size() == 2; }));
  for (IncomingCall* held : ends.held) compute_and_answer(*ends.server, *held);
  EXPECT_TRUE(ends.pump([&] { return ends.calls_that("late") == 2; }));
  EXPECT_TRUE(ends.client->prepare(link, call));  // theirs is free again

  ends.answering = true;
  ends.client->send(third->id, {}, in_good_time());
  EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call, 3));
}

TEST_F(SharedRoadTest, SendsWhatDoesNotFitAsFrames) {
  DataSettings settings = settings_for(Way::kShared);
  settings.shared_bytes = 1 << 20;
  ends.client = CallClient::create(ends.router.get(), "router-1", 200, settings).value();
  const DataLinkId link = ends.link_up();
  const wire::ExpertCall small = call_of(2, 64);
  const wire::ExpertCall large = call_of(64, 4096);
  for (const auto& call : {small, large, small}) {
    const CallId id = ends.send(link, call, 6);
    EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call, 6));
    ends.client->release(id);
  }
  EXPECT_EQ(ends.calls_that("ok"), 2);
  EXPECT_EQ(ends.router.value("conclave_fabric_data_calls_total",
                              {{"end", "client"}, {"road", "frames"}, {"outcome", "ok"}}),
            1);
  EXPECT_EQ(ends.router.value("conclave_fabric_data_bytes_total",
                              {{"end", "client"}, {"road", "frames"}, {"direction", "out"}}),
            static_cast<double>(wire::layout_of(large)->bytes));
}

TEST_F(SharedRoadTest, FallsBackToFramesWhenAnEndDoesNotShare) {
  DataSettings unshared = settings_for(Way::kShared);
  unshared.shared_memory = false;
  DataSettings larger = settings_for(Way::kShared);
  larger.shared_bytes += 1;  // than the worker allows
  for (const DataSettings& settings : {unshared, larger}) {
    ends.client = CallClient::create(ends.router.get(), "router-1", 200, settings).value();
    const DataLinkId link = ends.link_up();
    EXPECT_EQ(links_of(ends.router, "client", "frames"), 1);
    ends.send(link, call_of(2, 64), 7);
    EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call_of(2, 64), 7));
  }
  ends.server = CallServer::create(ends.worker.get(), "worker-2", 1, unshared, {}).value();
  ends.address = ends.server->listen("tcp://127.0.0.1:0").value();
  ends.client =
      CallClient::create(ends.router.get(), "router-1", 200, settings_for(Way::kShared)).value();
  ends.link_up();
  EXPECT_EQ(links_of(ends.router, "client", "frames"), 1);
  EXPECT_EQ(links_of(ends.worker, "server", "frames"), 1);
}

TEST_F(SharedRoadTest, AnswersIntoTheVoidWhenTheRouterIsGone) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  ends.send(link, call_of(8, 64), 1);
  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  ends.client.reset();
  const auto give_up = steady_clock::now() + kPatience;
  while (ends.server->peers() > 0 && steady_clock::now() < give_up) {
    ends.server->poll(steady_clock::now() + milliseconds(1));
  }
  EXPECT_EQ(ends.server->peers(), 0u);
  compute_and_answer(*ends.server, *ends.held[0]);  // its memory is still there
  EXPECT_EQ(ends.calls_that("unavailable", "server"), 1);
}

// ---- Limits ----

TEST(CallLimitsTest, RefusesRoutersBeyondItsLimit) {
  Ends ends(Way::kShared, CallServer::Limits{.peers_max = 1});
  ends.link_up();
  auto other = ends.another_client("router-2");
  const DataLinkId refused = other->connect(ends.address).value();
  EXPECT_TRUE(ends.pump([&] {
    other->poll(steady_clock::now());
    return ends.worker.refusals(Refusal::kOverloaded) > 0;
  }));
  EXPECT_FALSE(other->is_up(refused));
  EXPECT_EQ(ends.server->peers(), 1u);
  ends.client.reset();  // makes room, and the other is still trying
  const auto give_up = steady_clock::now() + kPatience;
  while (!other->is_up(refused) && steady_clock::now() < give_up) {
    ends.step_worker();
    other->poll(steady_clock::now() + milliseconds(1));
  }
  EXPECT_TRUE(other->is_up(refused));
}

class CallLimitTest : public ::testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, CallLimitTest, ::testing::Values(Way::kShared, Way::kFrames),
                         [](const auto& way) { return name_of(way.param); });

void expect_third_call_refused(Ends& ends) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  for (std::uint32_t i = 0; i < 2; ++i) ends.send(link, call_of(4, 64), i);
  ASSERT_TRUE(ends.pump([&] { return ends.held.size() == 2; }));
  const CallId third = ends.send(link, call_of(4, 64), 2);
  const Happened refused = ends.wait(Kind::kReply);
  EXPECT_EQ(refused.call, third);
  EXPECT_EQ(refused.reply.error.code, ErrorCode::kOverloaded);
  EXPECT_EQ(ends.worker.refusals(Refusal::kOverloaded), 1);
  EXPECT_EQ(ends.calls_that("overloaded", "server"), 1);
  ends.client->release(third);

  for (IncomingCall* held : ends.held) compute_and_answer(*ends.server, *held);
  ends.wait(Kind::kReply);
  ends.wait(Kind::kReply);
  ends.answering = true;
  // What was answered counts until it has been sent.
  EXPECT_TRUE(ends.pump([&] {
    const CallId id = ends.send(link, call_of(4, 64), 3);
    const bool ok = ends.wait(Kind::kReply).reply.ok;
    ends.client->release(id);
    return ok;
  }));
}

TEST_P(CallLimitTest, RefusesCallsBeyondTheirNumber) {
  Ends ends(GetParam(), CallServer::Limits{.calls_max = 2});
  expect_third_call_refused(ends);
}

TEST_P(CallLimitTest, RefusesCallsBeyondTheirBytes) {
  const wire::CallLayout layout = wire::layout_of(call_of(4, 64)).value();
  Ends ends(GetParam(), CallServer::Limits{.bytes_max = 2 * (layout.bytes + layout.reply_bytes)});
  expect_third_call_refused(ends);
}

TEST_P(CallLimitTest, DropsCallsWhoseDeadlineHasPassed) {
  Ends ends(GetParam());
  const auto settings = settings_for(GetParam());
  const system_clock::time_point now{std::chrono::hours(500'000)};
  system_clock::time_point workers_time = now;
  ends.server = CallServer::create(ends.worker.get(), "worker-1", 1, settings, {}, [&workers_time] {
                  return workers_time;
                }).value();
  ends.address = ends.server->listen("tcp://127.0.0.1:0").value();
  ends.client =
      CallClient::create(ends.router.get(), "router-1", 1, settings, [now] { return now; }).value();
  const DataLinkId link = ends.link_up();
  const auto deadline = steady_clock::now() + std::chrono::minutes(10);
  ends.answering = false;
  ends.send(link, call_of(1, 32), 1, deadline);
  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  EXPECT_GT(ends.held[0]->deadline, deadline - std::chrono::seconds(1));
  EXPECT_LT(ends.held[0]->deadline, deadline + std::chrono::minutes(1));
  workers_time += std::chrono::minutes(11);
  const CallId late = ends.send(link, call_of(1, 32), 2, deadline);
  const Happened refused = ends.wait(Kind::kReply);
  EXPECT_EQ(refused.call, late);
  EXPECT_EQ(refused.reply.error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(ends.calls_that("deadline_exceeded", "server"), 1);
}

// ---- Who may link ----

void expect_no_link(Ends& ends, CallClient& client, Refusal reason) {
  const DataLinkId link = client.connect(ends.address).value();
  EXPECT_TRUE(ends.pump([&] {
    EXPECT_TRUE(client.poll(steady_clock::now()).empty());
    return ends.worker.refusals(reason) > 0;
  }));
  EXPECT_FALSE(client.is_up(link));
  EXPECT_EQ(ends.server->peers(), 0u);
}

class LinkKeysTest : public ::testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, LinkKeysTest,
                         ::testing::Values(Way::kFrames, Way::kFramesUnencrypted),
                         [](const auto& way) { return name_of(way.param); });

TEST_P(LinkKeysTest, RefusesAKeyThatIsNobodys) {
  Ends ends(GetParam());
  const KeyDirectory strangers;
  std::filesystem::copy_file(ends.keys.path() / "expert-worker.pub",
                             strangers.path() / "expert-worker.pub",
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::remove(strangers.path() / "expert-worker.key");
  TestContext context(strangers.ring(NodeRole::kRouter));
  const auto client =
      CallClient::create(context.get(), "router-1", 1, settings_for(GetParam())).value();
  expect_no_link(ends, *client, Refusal::kUnknownKey);
}

TEST_P(LinkKeysTest, RefusesAKeyOfAnotherRole) {
  Ends ends(GetParam());
  TestContext context(ends.keys.ring(NodeRole::kGateway));
  const auto client =
      CallClient::create(context.get(), "gateway-1", 1, settings_for(GetParam())).value();
  expect_no_link(ends, *client, Refusal::kWrongRole);
}

TEST_P(LinkKeysTest, RefusesTheOtherKindOfProtection) {
  Ends ends(GetParam());
  const Way other = GetParam() == Way::kFrames ? Way::kFramesUnencrypted : Way::kFrames;
  const auto client =
      CallClient::create(ends.router.get(), "router-1", 1, settings_for(other)).value();
  expect_no_link(ends, *client, Refusal::kNoKey);
}

TEST(CallAddressTest, MustMakeSense) {
  Ends ends(Way::kShared);
  for (const char* address :
       {"", "tcp://", "direct://", "inproc://x", "udp://127.0.0.1:1", "127.0.0.1:7000"}) {
    const auto link = ends.client->connect(address);
    ASSERT_FALSE(link) << address;
    EXPECT_EQ(link.error().code, ErrorCode::kInvalidArgument) << address;
  }
  EXPECT_EQ(ends.server->listen("tcp://127.0.0.1:0").error().code, ErrorCode::kFailedPrecondition);
  const auto server = CallServer::create(ends.worker.get(), "worker-2", 1, {}, {}).value();
  for (const char* address : {"", "inproc://x", "direct://x", "tcp://nonsense", "tcp://*:port"}) {
    EXPECT_FALSE(server->listen(address)) << address;
  }
  EXPECT_EQ(server->listen(ends.address).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(server->listen("tcp://127.0.0.1:0"));
}

TEST(CallAddressTest, NeedsKeys) {
  TestContext context;
  const auto client = CallClient::create(context.get(), "router-1", 1, {}).value();
  EXPECT_EQ(client->connect("tcp://127.0.0.1:1").error().code, ErrorCode::kInvalidArgument);
  const auto server = CallServer::create(context.get(), "worker-1", 1, {}, {}).value();
  EXPECT_EQ(server->listen("tcp://127.0.0.1:0").error().code, ErrorCode::kInvalidArgument);
}

// ---- Direct calls ----

class DirectCallTest : public ::testing::Test {
 protected:
  TestContext context;  // no keys
  std::unique_ptr<CallClient> client = CallClient::create(context.get(), "router", 1, {}).value();
  std::unique_ptr<CallServer> server =
      CallServer::create(context.get(), "worker", 1, {}, {}).value();
};

TEST_F(DirectCallTest, WaitsForAServerThatComesLater) {
  const DataLinkId link = client->connect("direct://w").value();
  EXPECT_TRUE(client->poll(steady_clock::now()).empty());
  EXPECT_FALSE(client->is_up(link));
  std::thread late([&] { ASSERT_TRUE(server->serve_direct("w", [](auto) {})); });
  const auto events = client->poll(in_good_time());
  late.join();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kUp);
  EXPECT_EQ(server->peers(), 1u);
  client->disconnect(link);
  EXPECT_EQ(server->peers(), 0u);
}

TEST_F(DirectCallTest, RunsTheHandlerOnTheCallersThread) {
  std::thread::id ran;
  ASSERT_TRUE(server->serve_direct("w", [&](std::span<IncomingCall* const> calls) {
    ran = std::this_thread::get_id();
    ASSERT_EQ(calls.size(), 1u);
    EXPECT_EQ(calls[0]->peer, "router");
    compute_and_answer(*server, *calls[0]);
  }));
  const DataLinkId link = client->connect("direct://w").value();
  const auto buffer = client->prepare(link, call_of(1, 8)).value();
  fill(call_of(1, 8), buffer.payload, 1);
  client->send(buffer.id, {}, in_good_time());
  EXPECT_EQ(ran, std::this_thread::get_id());
}

TEST_F(DirectCallTest, SaysWhenAHandlerForgetsToAnswer) {
  ASSERT_TRUE(server->serve_direct("w", [](auto) {}));
  EXPECT_EQ(server->serve_direct("x", [](auto) {}).error().code, ErrorCode::kFailedPrecondition);
  const auto second = CallServer::create(context.get(), "worker-2", 1, {}, {}).value();
  EXPECT_EQ(second->serve_direct("w", [](auto) {}).error().code, ErrorCode::kFailedPrecondition);

  const DataLinkId link = client->connect("direct://w").value();
  const auto buffer = client->prepare(link, call_of(1, 8)).value();
  fill(call_of(1, 8), buffer.payload, 1);
  client->send(buffer.id, {}, in_good_time());
  const auto events = client->poll(in_good_time());
  ASSERT_EQ(events.size(), 2u);  // up, and
  EXPECT_EQ(events[1].kind, Kind::kReply);
  EXPECT_FALSE(events[1].reply.ok);
  EXPECT_EQ(events[1].reply.error.code, ErrorCode::kInternal);
}

TEST_F(DirectCallTest, ServesSeveralThreadsOneAtATime) {
  int inside = 0;
  int most = 0;
  ASSERT_TRUE(server->serve_direct("w", [&](std::span<IncomingCall* const> calls) {
    most = std::max(most, ++inside);  // no lock: the server has one
    compute_and_answer(*server, *calls[0]);
    --inside;
  }));
  std::vector<std::thread> routers;
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    routers.emplace_back([this, seed] {
      const auto own = CallClient::create(context.get(), "router", seed, {}).value();
      const DataLinkId link = own->connect("direct://w").value();
      for (int i = 0; i < 200; ++i) {
        const auto buffer = own->prepare(link, call_of(2, 32)).value();
        fill(call_of(2, 32), buffer.payload, seed);
        own->send(buffer.id, {}, in_good_time());
        for (const CallEvent& event : own->poll(in_good_time())) {
          if (event.kind != Kind::kReply) continue;
          EXPECT_EQ(floats_of(event.payload), expected_of(call_of(2, 32), seed));
          own->release(event.call);
        }
      }
    });
  }
  for (std::thread& router : routers) router.join();
  EXPECT_EQ(most, 1);
}

}  // namespace
}  // namespace conclave::fabric
