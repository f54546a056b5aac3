// What holds on every road from router to worker.
#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <set>

#include "testing_calls.hpp"

namespace conclave::fabric {
namespace {

using namespace testing;
using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Kind = CallEvent::Kind;

class CallRoadsTest : public ::testing::TestWithParam<Way> {
 protected:
  Ends ends{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Ways, CallRoadsTest,
                         ::testing::Values(Way::kShared, Way::kFrames, Way::kFramesUnencrypted,
                                           Way::kLocalFrames, Way::kDirect),
                         [](const auto& way) { return name_of(way.param); });

TEST_P(CallRoadsTest, CarriesCallsOfEverySize) {
  const DataLinkId link = ends.link_up();
  EXPECT_EQ(links_of(ends.router_context(), "client", road_of(GetParam())), 1);
  std::uint32_t seed = 0;
  // One value; a row that ends off a cache line; just below and above what goes by reference;
  // megabytes.
  for (const auto& call :
       {call_of(1, 1, 1), call_of(3, 17), call_of(1, 1024, 1), call_of(4, 1000), call_of(4, 1030),
        call_of(16, 1024), call_of(33, 2880, 8), call_of(64, 4096)}) {
    const CallId id = ends.send(link, call, ++seed);
    const Happened reply = ends.wait(Kind::kReply);
    EXPECT_EQ(reply.call, id);
    EXPECT_EQ(reply.link, link);
    EXPECT_TRUE(reply.reply.ok);
    EXPECT_EQ(reply.reply.compute_us, 11u);
    EXPECT_EQ(reply.reply.batch_pairs, call.pairs);
    EXPECT_EQ(reply.y, expected_of(call, seed));
    ends.client->release(id);
  }
  EXPECT_EQ(ends.calls_that("ok"), 8);
  EXPECT_TRUE(ends.events.empty());
}

TEST(CallNamesTest, ConnectsToAWorkerByTheNameOfItsHost) {
  Ends ends(Way::kFrames);
  ends.address.replace(ends.address.find("127.0.0.1"), 9, "localhost");
  const DataLinkId link = ends.link_up();
  ends.send(link, call_of(2, 64), 1);
  EXPECT_TRUE(ends.wait(Kind::kReply).reply.ok);
}

TEST_P(CallRoadsTest, CarriesQuantizedRows) {
  const DataLinkId link = ends.link_up();
  wire::ExpertCall call = call_of(2, 64, 1);
  call.forms = wire::RowForms::kBoth;
  const wire::CallLayout layout = *wire::layout_of(call);
  const auto buffer = ends.client->prepare(link, call);
  ASSERT_TRUE(buffer);
  ASSERT_EQ(buffer->payload.size(), layout.bytes);
  std::memset(buffer->payload.data(), 0, buffer->payload.size());
  const std::array<CallPair, 2> pairs{CallPair{1, 4}, CallPair{0, 9}};
  std::memcpy(buffer->payload.data() + layout.pairs, pairs.data(), sizeof pairs);
  const float value = 21;
  std::memcpy(buffer->payload.data() + layout.floats, &value, sizeof value);
  ends.client->send(buffer->id, {}, in_good_time());
  const Happened reply = ends.wait(Kind::kReply);
  ASSERT_EQ(reply.y.size(), 2u * 64);
  EXPECT_EQ(reply.y[0], 4);        // row 1, expert 4
  EXPECT_EQ(reply.y[64], 42 + 9);  // row 0, expert 9
}

TEST_P(CallRoadsTest, KeepsSeveralCallsOfALinkApart) {
  const DataLinkId link = ends.link_up();
  std::map<CallId, std::uint32_t> seeds;
  for (std::uint32_t seed = 1; seed <= DataSettings().calls_max; ++seed) {
    seeds[ends.send(link, call_of(seed, 100), seed)] = seed;
  }
  const auto refused = ends.client->prepare(link, call_of(1, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  while (!seeds.empty()) {
    const Happened reply = ends.wait(Kind::kReply);
    ASSERT_TRUE(seeds.contains(reply.call));
    EXPECT_EQ(reply.y, expected_of(call_of(seeds[reply.call], 100), seeds[reply.call]));
    seeds.erase(reply.call);
    ends.client->release(reply.call);
  }
  EXPECT_TRUE(ends.client->prepare(link, call_of(1, 1)));
}

TEST_P(CallRoadsTest, GivesAReplysMemoryToNobodyElseBeforeItsRelease) {
  const DataLinkId link = ends.link_up();
  const wire::ExpertCall call = call_of(8, 512);
  ends.send(link, call, 1);
  const auto first = ends.wait(Kind::kReply).payload;
  for (std::uint32_t seed = 2; seed < 6; ++seed) {
    ends.client->release(ends.send(link, call, seed));
    ends.client->release(ends.wait(Kind::kReply).call);
  }
  EXPECT_EQ(floats_of(first), expected_of(call, 1));
}

TEST_P(CallRoadsTest, ReachesAWorkerOverSeveralLinksAndFromSeveralRouters) {
  const DataLinkId first = ends.link_up();
  const DataLinkId second = ends.link_up();
  EXPECT_NE(first, second);
  auto other = ends.another_client("router-2");
  const auto third = other->connect(ends.address);
  ASSERT_TRUE(third);
  ASSERT_TRUE(ends.pump([&] {
    other->poll(steady_clock::now());
    return other->is_up(*third) && ends.server->peers() == 3;
  }));
  const wire::ExpertCall call = call_of(2, 256);
  const CallId a = ends.send(first, call, 1);
  const CallId b = ends.send(second, call, 2);
  const auto c = other->prepare(*third, call);
  ASSERT_TRUE(c);
  fill(call, c->payload, 3);
  other->send(c->id, {}, in_good_time());
  std::vector<float> y;
  ASSERT_TRUE(ends.pump([&] {
    for (const CallEvent& event : other->poll(steady_clock::now())) {
      if (event.kind == Kind::kReply) y = floats_of(event.payload);
    }
    return !y.empty();
  }));
  EXPECT_EQ(y, expected_of(call, 3));
  EXPECT_EQ(ends.wait([a](const Happened& e) { return e.call == a; }).y, expected_of(call, 1));
  EXPECT_EQ(ends.wait([b](const Happened& e) { return e.call == b; }).y, expected_of(call, 2));

  other.reset();
  ends.client->disconnect(second);
  EXPECT_FALSE(ends.client->is_up(second));
  EXPECT_TRUE(ends.pump([&] { return ends.server->peers() == 1; }));
}

TEST_P(CallRoadsTest, PassesErrorsOfTheWorkerOn) {
  if (GetParam() == Way::kDirect) return;  // its handler is fixed: see CallDirectTest
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  const CallId id = ends.send(link, call_of(1, 32), 1);
  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  EXPECT_EQ(ends.held[0]->peer, "router-1");
  EXPECT_EQ(ends.held[0]->call, call_of(1, 32));
  wire::ExpertReply refusal;
  refusal.ok = false;
  refusal.error = {ErrorCode::kFailedPrecondition, "expert (5, 0) is not here"};
  ends.server->answer(*ends.held[0], refusal);
  const Happened reply = ends.wait(Kind::kReply);
  EXPECT_EQ(reply.call, id);
  EXPECT_EQ(reply.reply, refusal);
  EXPECT_TRUE(reply.y.empty());
  EXPECT_EQ(ends.calls_that("refused"), 1);
  EXPECT_EQ(ends.calls_that("refused", "server"), 1);
}

TEST_P(CallRoadsTest, FailsACallAtItsDeadlineOnceAndDropsItsLateAnswer) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  const CallId id =
      ends.send(link, call_of(1, 32), 1,
                steady_clock::now() + milliseconds(GetParam() == Way::kDirect ? -1 : 20));
  const Happened failed = ends.wait(Kind::kFailed);
  EXPECT_EQ(failed.call, id);
  EXPECT_EQ(failed.error.code, ErrorCode::kDeadlineExceeded);
  ends.client->release(id);
  if (GetParam() == Way::kDirect) return;  // it is never late: it runs at once or not at all

  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  compute_and_answer(*ends.server, *ends.held[0]);
  EXPECT_TRUE(ends.pump([&] { return ends.calls_that("late") == 1; }));
  EXPECT_TRUE(ends.events.empty());
  EXPECT_EQ(ends.calls_that("deadline_exceeded"), 1);
}

TEST_P(CallRoadsTest, SaysNothingOfACancelledCall) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  ends.client->cancel(ends.client->prepare(link, call_of(1, 32))->id);
  const CallId id = ends.send(link, call_of(1, 32), 1);
  ends.client->cancel(id);
  if (GetParam() != Way::kDirect) {
    ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
    compute_and_answer(*ends.server, *ends.held[0]);
    EXPECT_TRUE(ends.pump([&] { return ends.calls_that("late") == 1; }));
    EXPECT_EQ(ends.calls_that("cancelled"), 2);
  }
  ends.answering = true;
  const CallId next = ends.send(link, call_of(2, 32), 2);
  EXPECT_EQ(ends.wait(Kind::kReply).call, next);
  EXPECT_TRUE(ends.events.empty());
}

TEST_P(CallRoadsTest, RefusesCallsWhileItDrains) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  const CallId taken = ends.send(link, call_of(1, 32), 1);
  if (GetParam() != Way::kDirect) {
    ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  }
  ends.server->drain();
  const CallId refused = ends.send(link, call_of(1, 32), 2);
  const Happened no = ends.wait([&](const Happened& e) { return e.call == refused; });
  EXPECT_EQ(no.kind, Kind::kReply);
  EXPECT_FALSE(no.reply.ok);
  EXPECT_EQ(no.reply.error.code, ErrorCode::kUnavailable);
  if (GetParam() != Way::kDirect) compute_and_answer(*ends.server, *ends.held[0]);
  const Happened yes = ends.wait([&](const Happened& e) { return e.call == taken; });
  EXPECT_EQ(yes.y, expected_of(call_of(1, 32), 1));
}

TEST_P(CallRoadsTest, TellsOfTheWorkersEndAndOfItsReturn) {
  const DataLinkId link = ends.link_up();
  ends.answering = false;
  CallId id = 0;
  if (GetParam() != Way::kDirect) {
    id = ends.send(link, call_of(1, 32), 1);
    ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  }
  const auto prepared = ends.client->prepare(link, call_of(1, 32));
  ASSERT_TRUE(prepared);
  ends.server.reset();
  const Happened down = ends.wait(Kind::kDown);
  EXPECT_EQ(down.link, link);
  EXPECT_EQ(down.error.code, ErrorCode::kUnavailable);
  EXPECT_FALSE(ends.client->is_up(link));
  EXPECT_EQ(ends.client->prepare(link, call_of(1, 32)).error().code, ErrorCode::kUnavailable);
  if (id != 0) {
    const Happened failed = ends.wait(Kind::kFailed);
    EXPECT_EQ(failed.call, id);
    EXPECT_EQ(failed.error.code, ErrorCode::kUnavailable);
  }
  // What was prepared for the link that broke fails when it is sent, not before.
  EXPECT_TRUE(ends.events.empty());
  fill(call_of(1, 32), prepared->payload, 1);
  ends.client->send(prepared->id, {}, in_good_time());
  EXPECT_EQ(ends.wait(Kind::kFailed).call, prepared->id);

  ends.server =
      *CallServer::create(ends.worker.get(), "worker-1", 101, settings_for(GetParam()), {});
  if (GetParam() == Way::kDirect) {
    ASSERT_TRUE(ends.server->serve_direct("worker-1", [&](auto calls) {
      for (IncomingCall* call : calls) compute_and_answer(*ends.server, *call);
    }));
  } else {
    // ZeroMQ closes the former socket on a thread of its own.
    ASSERT_TRUE(ends.pump([&] { return ends.server->listen(ends.address).has_value(); }));
  }
  EXPECT_EQ(ends.wait(Kind::kUp).link, link);
  ends.answering = true;
  ends.held.clear();
  ends.send(link, call_of(3, 32), 4);
  EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call_of(3, 32), 4));
  EXPECT_EQ(links_of(ends.router_context(), "client", road_of(GetParam())), 1);
}

TEST_P(CallRoadsTest, RefusesCallsThatNoLayoutFits) {
  const DataLinkId link = ends.link_up();
  EXPECT_EQ(ends.client->prepare(link, call_of(0, 32)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ends.client->prepare(link + 9, call_of(1, 32)).error().code, ErrorCode::kUnavailable);
}

TEST_P(CallRoadsTest, AnswersPairsThatAreOutOfOrderOrOutOfRange) {
  const DataLinkId link = ends.link_up();
  const wire::ExpertCall call = call_of(2, 32, 1);
  for (const auto& pairs :
       {std::array{CallPair{0, 1}, CallPair{2, 1}}, std::array{CallPair{0, 2}, CallPair{1, 1}},
        std::array{CallPair{1, 1}, CallPair{0, 1}}}) {
    const auto buffer = ends.client->prepare(link, call);
    fill(call, buffer->payload, 1);
    std::memcpy(buffer->payload.data(), pairs.data(), sizeof pairs);
    ends.client->send(buffer->id, {}, in_good_time());
    const Happened reply = ends.wait(Kind::kReply);
    EXPECT_FALSE(reply.reply.ok);
    EXPECT_EQ(reply.reply.error.code, ErrorCode::kInvalidArgument);
    ends.client->release(reply.call);
  }
}

TEST_P(CallRoadsTest, WakesAPollEarly) {
  ends.client->wake();
  EXPECT_TRUE(ends.client->poll(in_good_time()).empty());
  ends.server->wake();
  EXPECT_TRUE(ends.server->poll(in_good_time()).empty());
  std::thread waker([&] { ends.client->wake(); });
  EXPECT_TRUE(ends.client->poll(in_good_time()).empty());
  waker.join();
}

TEST_P(CallRoadsTest, EndsAPollAtItsTime) {
  const auto until = steady_clock::now() + milliseconds(2);
  EXPECT_TRUE(ends.client->poll(until).empty());
  EXPECT_GE(steady_clock::now(), until);
  EXPECT_TRUE(ends.server->poll(steady_clock::now() + milliseconds(2)).empty());
}

// Where an answer of this host, or its router's next call, is near, a poll looks before it sleeps.
TEST_P(CallRoadsTest, APollThatExpectsSomethingEndsAtItsTimeOrIsWoken) {
  if (GetParam() == Way::kDirect) return;  // answered while it is sent
  const DataLinkId link = ends.link_up();
  const wire::ExpertCall call = call_of(2, 32);
  ends.answering = false;
  ends.send(link, call, 1);
  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  auto until = steady_clock::now() + milliseconds(20);
  EXPECT_TRUE(ends.client->poll(until).empty());
  EXPECT_GE(steady_clock::now(), until);
  std::thread waker([&] { ends.client->wake(); });
  EXPECT_TRUE(ends.client->poll(in_good_time()).empty());
  waker.join();

  compute_and_answer(*ends.server, *ends.held.front());
  ends.held.clear();
  until = steady_clock::now() + milliseconds(20);
  EXPECT_TRUE(ends.server->poll(until).empty());
  EXPECT_GE(steady_clock::now(), until);
  EXPECT_EQ(ends.wait(Kind::kReply).y, expected_of(call, 1));
}

}  // namespace
}  // namespace conclave::fabric
