// Peers that have a key and break the rules: nothing that they send is believed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "conclave/base/aligned.hpp"
#include "testing_raw_data.hpp"

namespace conclave::fabric {
namespace {

using namespace testing;
using base::ErrorCode;
using wire::FrameKind;
using wire::NodeRole;
using Kind = CallEvent::Kind;

wire::Bytes payload_of(const wire::ExpertCall& call, std::uint32_t seed = 1) {
  base::AlignedVector<std::byte> payload(wire::layout_of(call)->bytes);
  fill(call, payload, seed);
  return {payload.begin(), payload.end()};
}

const wire::ExpertReply& reply_in(const RawMessage& message) {
  return std::get<wire::ExpertReply>(message.body);
}

class HostileRouterTest : public ::testing::Test {
 protected:
  Ends ends{Way::kShared};
  RawRouter router{ends, ends.keys.ring(NodeRole::kRouter).own()};
  const wire::ExpertCall call = call_of(2, 64);
  const wire::Bytes payload = payload_of(call);

  double refused(Refusal reason) { return ends.worker.refusals(reason); }
  bool pump_refused(Refusal reason, double count) {
    return ends.pump([&] { return refused(reason) == count; });
  }
  /// The link still works.
  void expect_service() {
    router.send(router.request(payload.size()), call, payload);
    const RawMessage reply = router.receive();
    EXPECT_TRUE(reply_in(reply).ok);
    EXPECT_EQ(floats_of(reply.payload), expected_of(call, 1));
  }
};

TEST_F(HostileRouterTest, IsServedWhenItKeepsTheRules) {
  router.link();
  expect_service();
  EXPECT_EQ(refused(Refusal::kMalformed), 0);
}

TEST_F(HostileRouterTest, GetsNothingBeforeItsHello) {
  router.send(router.request(payload.size()), call, payload);
  EXPECT_TRUE(pump_refused(Refusal::kMalformed, 1));
  EXPECT_EQ(ends.server->peers(), 0u);
  router.link();
  expect_service();
}

TEST_F(HostileRouterTest, IsRefusedAsAnythingButARouter) {
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.type = wire::kTypeOf<wire::Hello>;
  router.send(hello, wire::Hello{"scheduler", NodeRole::kScheduler, 1});
  EXPECT_EQ(router.receive().envelope.kind, FrameKind::kError);
  EXPECT_EQ(refused(Refusal::kWrongRole), 1);
  router.send(hello, wire::ErrorBody{{ErrorCode::kInternal, "no hello"}});
  EXPECT_EQ(router.receive().envelope.kind, FrameKind::kError);
  EXPECT_EQ(refused(Refusal::kMalformed), 1);
  EXPECT_EQ(ends.server->peers(), 0u);
}

// ZeroMQ aborts the process when a heartbeat is due on a connection that broke while a full queue
// kept it from being read (libzmq issue 4364), as after SIGSTOP and SIGCONT.
TEST(HostileFloodTest, EndsNothingWhenItGoesWithoutBeingRead) {
  DataSettings settings = settings_for(Way::kFrames);
  settings.heartbeat_ms = 10;
  settings.calls_max = 2;
  Ends ends(Way::kFrames, settings);
  {
    RawRouter router(ends, ends.keys.ring(NodeRole::kRouter).own());
    router.link();
    const wire::ExpertCall call = call_of(2, 64);
    const wire::Bytes payload = payload_of(call);
    for (int i = 0; i < 100; ++i) router.send(router.request(payload.size()), call, payload);
  }
  // Other links' time passes, many heartbeats of it, while this worker reads nothing.
  Ends others(Way::kFrames, settings_for(Way::kFrames));
  const DataLinkId link = others.link_up();
  const auto until =
      std::chrono::steady_clock::now() + 50 * std::chrono::milliseconds(settings.heartbeat_ms);
  while (std::chrono::steady_clock::now() < until) {
    const CallId id = others.send(link, call_of(2, 64), 1);
    EXPECT_TRUE(others.wait(Kind::kReply).reply.ok);
    others.client->release(id);
  }
  EXPECT_TRUE(ends.pump([&] { return ends.server->peers() == 0; }));
}

TEST_F(HostileRouterTest, SendsWhatIsNoMessage) {
  router.link();
  const wire::Bytes garbage(100, std::byte{0xa5});
  router.send({garbage});
  router.send({garbage, garbage, garbage});
  router.send({wire::Bytes{}});
  router.send({garbage, garbage, garbage, garbage, garbage, garbage});
  EXPECT_TRUE(pump_refused(Refusal::kMalformed, 4));
  wire::Envelope newer = router.request(0);
  newer.version = 99;
  router.send(newer, call);
  EXPECT_TRUE(pump_refused(Refusal::kVersion, 1));
  wire::Envelope stale = router.request(payload.size());
  stale.incarnation = 1;
  router.send(stale, call, payload);
  EXPECT_TRUE(pump_refused(Refusal::kStale, 1));
  expect_service();
}

TEST_F(HostileRouterTest, SaysHelloTwice) {
  router.link();
  wire::Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.type = wire::kTypeOf<wire::Hello>;
  router.send(hello, wire::Hello{"another-name", NodeRole::kRouter, 5});
  EXPECT_TRUE(pump_refused(Refusal::kMalformed, 1));
  EXPECT_EQ(ends.server->peers(), 1u);
  expect_service();
}

TEST_F(HostileRouterTest, GetsErrorsForCallsThatContradictThemselves) {
  router.link();
  const auto expect_refusal = [&](const wire::Envelope& envelope, const wire::Message& body,
                                  const wire::Bytes& bytes, ErrorCode code) {
    const double before = refused(Refusal::kMalformed);
    router.send(envelope, body, bytes);
    const RawMessage reply = router.receive();
    EXPECT_EQ(reply.envelope.request_id, envelope.request_id);
    EXPECT_FALSE(reply_in(reply).ok);
    EXPECT_EQ(reply_in(reply).error.code, code) << reply_in(reply).error.message;
    EXPECT_EQ(refused(Refusal::kMalformed), before + 1);
  };
  wire::ExpertCall too_many = call;
  too_many.rows = std::numeric_limits<std::uint32_t>::max();
  wire::Bytes shorter = payload;
  shorter.resize(payload.size() - 1);
  wire::Envelope other_type = router.request(payload.size());
  other_type.type = wire::kTypeOf<wire::Nudge>;
  wire::Bytes bad_row = payload;
  bad_row[0] = std::byte{2};  // of two rows

  expect_refusal(other_type, wire::Nudge{}, payload, ErrorCode::kInvalidArgument);
  expect_refusal(router.request(payload.size()), wire::Nudge{}, payload, ErrorCode::kCorruptData);
  expect_refusal(router.request(payload.size()), too_many, payload, ErrorCode::kInvalidArgument);
  expect_refusal(router.request(payload.size() + 1), call, payload, ErrorCode::kInvalidArgument);
  expect_refusal(router.request(payload.size()), call, shorter, ErrorCode::kInvalidArgument);
  expect_refusal(router.request(payload.size()), call, {}, ErrorCode::kInvalidArgument);
  expect_refusal(router.request(payload.size()), call, bad_row, ErrorCode::kInvalidArgument);
  expect_service();
}

// ---- The local road ----

class HostileLocalTest : public HostileRouterTest {
 protected:
  const LocalOffer offer = router.link().value();
  RawLocal local{ends, offer.name};
  SharedSegment segment = SharedSegment::create(1 << 20).value();

  void open() {
    ASSERT_TRUE(local.send(encode_opening(offer.token), segment.descriptor()));
    const auto answer = local.receive();
    ASSERT_TRUE(answer && accepts(*answer));
  }
  void put(std::size_t offset) {
    std::ranges::copy(payload, segment.bytes().subspan(offset).begin());
  }
  RawMessage ask(const wire::Envelope& envelope, const wire::Message& body, std::uint64_t offset) {
    EXPECT_TRUE(local.send(envelope, body, offset));
    return local.receive_message();
  }
  void expect_local_service() {
    put(128);
    const RawMessage reply = ask(router.request(payload.size()), call, 128);
    ASSERT_TRUE(reply_in(reply).ok) << reply_in(reply).error.message;
    const wire::CallLayout layout = *wire::layout_of(call);
    const auto y = segment.bytes().subspan(128 + reply_offset(layout), layout.reply_bytes);
    EXPECT_EQ(floats_of(y), expected_of(call, 1));
  }
  void expect_not_accepted(std::span<const std::byte> opening, int passed) {
    ASSERT_TRUE(local.send(opening, passed));
    const auto answer = local.receive();
    EXPECT_FALSE(answer && accepts(*answer));
    expect_service();  // over frames
  }
};

TEST_F(HostileLocalTest, IsServedWhenItKeepsTheRules) {
  open();
  expect_local_service();
  EXPECT_EQ(links_of(ends.worker, "server", "shared"), 1);
  EXPECT_EQ(links_of(ends.worker, "server", "frames"), 0);
}

TEST_F(HostileLocalTest, NeedsTheTokenThatItWasTold) {
  Random128 wrong = offer.token;
  wrong[15] ^= 1;
  expect_not_accepted(encode_opening(wrong), segment.descriptor());
  EXPECT_EQ(refused(Refusal::kNoKey), 1);
}

TEST_F(HostileLocalTest, CannotUseATokenTwice) {
  open();
  RawLocal second(ends, offer.name);
  ASSERT_TRUE(second.send(encode_opening(offer.token), segment.descriptor()));
  EXPECT_FALSE(second.receive());
  EXPECT_EQ(refused(Refusal::kNoKey), 1);
  expect_local_service();
}

TEST_F(HostileLocalTest, IsHungUpOnWhenItSpeaksAnotherLanguage) {
  expect_not_accepted(wire::Bytes(8, std::byte{1}), segment.descriptor());
  RawLocal second(ends, offer.name);
  ASSERT_TRUE(second.send(wire::Bytes(2 * kPacketBytesMax)));
  EXPECT_FALSE(second.receive());
}

TEST_F(HostileLocalTest, MustPassMemory) { expect_not_accepted(encode_opening(offer.token), -1); }

TEST_F(HostileLocalTest, MustPassMemoryThatItCannotMakeShorter) {
  const Descriptor unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 1 << 20), 0);
  expect_not_accepted(encode_opening(offer.token), unsealed.get());
  EXPECT_EQ(refused(Refusal::kMalformed), 1);
}

TEST_F(HostileLocalTest, MustPassMemoryAndNotAFile) {
  const Descriptor file(::open((ends.keys.path() / "router.pub").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file.ok());
  expect_not_accepted(encode_opening(offer.token), file.get());
}

TEST_F(HostileLocalTest, MustNotPassMoreMemoryThanIsAllowed) {
  const auto large = SharedSegment::create((std::size_t{64} << 20) + 1);
  expect_not_accepted(encode_opening(offer.token), large->descriptor());
}

TEST_F(HostileLocalTest, CannotPointOutsideOfItsSegment) {
  open();
  const std::size_t size = segment.bytes().size();
  const std::size_t needed = block_bytes(*wire::layout_of(call));
  const std::uint64_t highest = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t offset :
       {std::uint64_t{size}, std::uint64_t{size - 64},
        std::uint64_t{(size - needed) / 64 * 64 + 64}, highest / 64 * 64, highest - 63,
        std::uint64_t{1}, std::uint64_t{1} << 63}) {
    const RawMessage reply = ask(router.request(payload.size()), call, offset);
    EXPECT_FALSE(reply_in(reply).ok) << offset;
    EXPECT_EQ(reply_in(reply).error.code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(refused(Refusal::kMalformed), 7);
  wire::ExpertCall larger = call_of(64, 4096);  // 1 MiB and its pairs: more than there is
  const RawMessage reply = ask(router.request(wire::layout_of(larger)->bytes), larger, 0);
  EXPECT_FALSE(reply_in(reply).ok);
  expect_local_service();
}

TEST_F(HostileLocalTest, CannotChangePairsThatWereChecked) {
  open();
  put(0);
  ends.answering = false;
  ASSERT_TRUE(local.send(router.request(payload.size()), call, 0));
  ASSERT_TRUE(ends.pump([&] { return !ends.held.empty(); }));
  const CallPair evil{0xffffffff, 0xffffffff};
  for (std::size_t i = 0; i < call.pairs; ++i) {
    std::memcpy(segment.bytes().data() + i * sizeof evil, &evil, sizeof evil);
  }
  EXPECT_THAT(ends.held[0]->pairs, ::testing::ElementsAre(CallPair{0, 0}, CallPair{1, 0},
                                                          CallPair{0, 1}, CallPair{1, 1}));
  compute_and_answer(*ends.server, *ends.held[0]);
  EXPECT_TRUE(reply_in(local.receive_message()).ok);
}

TEST_F(HostileLocalTest, SendsPacketsThatAreNoCalls) {
  open();
  const wire::Bytes garbage(64, std::byte{0x5a});
  ASSERT_TRUE(local.send(garbage));
  ASSERT_TRUE(local.send(wire::Bytes(kPacketBytesMax + 1)));
  PacketHead head{16, 16, 0};
  ASSERT_TRUE(local.send(std::as_bytes(std::span(&head, 1))));
  wire::Envelope cast = router.request(0);
  cast.kind = FrameKind::kCast;
  ASSERT_TRUE(local.send(cast, call, 0));
  EXPECT_TRUE(pump_refused(Refusal::kMalformed, 4));
  expect_local_service();
}

TEST_F(HostileLocalTest, LosesItsLinkWhenItReadsNoAnswers) {
  open();
  wire::ExpertCall empty = call;
  empty.rows = 0;
  EXPECT_TRUE(ends.pump([&] {
    local.send(router.request(0), empty, 0);
    return ends.server->peers() == 0;
  }));
}

TEST_F(HostileLocalTest, CannotFillTheDoorway) {
  std::vector<std::unique_ptr<RawLocal>> silent;
  for (int i = 0; i < 100; ++i) {
    silent.push_back(std::make_unique<RawLocal>(ends, offer.name));
    ends.step();
  }
  EXPECT_GT(refused(Refusal::kOverloaded), 0);
  RawLocal late(ends, offer.name);
  ASSERT_TRUE(late.send(encode_opening(offer.token), segment.descriptor()));
  const auto answer = late.receive();
  EXPECT_TRUE(answer && accepts(*answer));
}

// ---- Workers ----

class HostileWorkerTest : public ::testing::Test {
 protected:
  Ends ends{Way::kFrames};
  RawWorker worker{ends, ends.keys.ring(NodeRole::kExpertWorker).own()};
  const wire::ExpertCall call = call_of(2, 64);
  const std::size_t reply_bytes = wire::layout_of(call)->reply_bytes;

  DataLinkId link_up() {
    const DataLinkId link = ends.client->connect(worker.address()).value();
    worker.link();
    ends.wait(Kind::kUp);
    return link;
  }
  double refused(Refusal reason) { return ends.router.refusals(reason); }
  bool pump_refused(Refusal reason, double count) {
    return ends.pump([&] { return refused(reason) == count; });
  }
};

TEST_F(HostileWorkerTest, IsBelievedWhenItKeepsTheRules) {
  const DataLinkId link = link_up();
  ends.send(link, call, 1);
  const RawMessage got = worker.receive();
  EXPECT_EQ(std::get<wire::ExpertCall>(got.body), call);
  EXPECT_EQ(got.payload, payload_of(call));
  worker.send(RawWorker::reply_to(got, reply_bytes), wire::ExpertReply{}, wire::Bytes(reply_bytes));
  EXPECT_EQ(ends.wait(Kind::kReply).y, std::vector<float>(reply_bytes / sizeof(float)));
}

TEST_F(HostileWorkerTest, FailsTheCallWhoseAnswerIsMalformed) {
  const DataLinkId link = link_up();
  const auto expect_failure = [&](auto&& answer) {
    const CallId id = ends.send(link, call, 1);
    answer(worker.receive());
    const Happened failed = ends.wait(Kind::kFailed);
    EXPECT_EQ(failed.call, id);
    EXPECT_EQ(failed.error.code, ErrorCode::kCorruptData);
  };
  const wire::ExpertReply ok;
  expect_failure([&](const RawMessage& got) {
    worker.send(RawWorker::reply_to(got, reply_bytes), ok, wire::Bytes(reply_bytes - 1));
  });
  expect_failure(
      [&](const RawMessage& got) { worker.send(RawWorker::reply_to(got, reply_bytes), ok); });
  expect_failure([&](const RawMessage& got) {
    worker.send(RawWorker::reply_to(got, 1), ok, wire::Bytes(reply_bytes));
  });
  expect_failure([&](const RawMessage& got) {
    worker.send({wire::encode(RawWorker::reply_to(got, reply_bytes)), wire::Bytes(7)});
  });
  EXPECT_EQ(refused(Refusal::kMalformed), 4);
  EXPECT_TRUE(ends.client->is_up(link));
  EXPECT_EQ(ends.calls_that("invalid"), 4);
}

TEST_F(HostileWorkerTest, CannotAnswerWhatWasNotAsked) {
  const DataLinkId link = link_up();
  const CallId id = ends.send(link, call, 1);
  const RawMessage got = worker.receive();
  wire::Envelope other = RawWorker::reply_to(got, reply_bytes);
  other.request_id = id + 100;
  worker.send(other, wire::ExpertReply{}, wire::Bytes(reply_bytes));
  wire::Envelope earlier = RawWorker::reply_to(got, reply_bytes);
  earlier.incarnation = 1;
  worker.send(earlier, wire::ExpertReply{}, wire::Bytes(reply_bytes));
  EXPECT_TRUE(pump_refused(Refusal::kStale, 2));
  worker.send({wire::Bytes(33, std::byte{3})});
  worker.send(got.envelope, got.body);
  EXPECT_TRUE(pump_refused(Refusal::kMalformed, 2));
  worker.send(RawWorker::reply_to(got, reply_bytes), wire::ExpertReply{}, wire::Bytes(reply_bytes));
  EXPECT_EQ(ends.wait(Kind::kReply).call, id);
  worker.send(RawWorker::reply_to(got, reply_bytes), wire::ExpertReply{}, wire::Bytes(reply_bytes));
  EXPECT_TRUE(pump_refused(Refusal::kStale, 3));
  EXPECT_TRUE(ends.events.empty());
}

TEST_F(HostileWorkerTest, IsNoWorkerUnlessItSaysSo) {
  const DataLinkId link = ends.client->connect(worker.address()).value();
  EXPECT_EQ(worker.receive().envelope.kind, FrameKind::kHello);
  wire::Envelope welcome;
  welcome.kind = FrameKind::kWelcome;
  welcome.type = wire::kTypeOf<wire::Hello>;
  worker.send(welcome, wire::Hello{"gateway", NodeRole::kGateway, 1});
  // It is left, and asked again.
  EXPECT_EQ(worker.receive().envelope.kind, FrameKind::kHello);
  EXPECT_FALSE(ends.client->is_up(link));
}

TEST_F(HostileWorkerTest, MayRefuseALinkForAWhile) {
  ASSERT_TRUE(ends.client->connect(worker.address()));
  EXPECT_EQ(worker.receive().envelope.kind, FrameKind::kHello);
  wire::Envelope error;
  error.kind = FrameKind::kError;
  error.type = wire::kTypeOf<wire::ErrorBody>;
  worker.send(error, wire::ErrorBody{{ErrorCode::kOverloaded, "full"}});
  worker.link();
  ends.wait(Kind::kUp);
}

}  // namespace
}  // namespace conclave::fabric
