// What nodes do with peers that break the rules.
#include <gmock/gmock.h>

#include <future>
#include <optional>

#include "conclave/wire/limits.hpp"
#include "context_internal.hpp"
#include "testing_node_links.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::ask;
using testing::kGateway;
using testing::NodeLinksTest;
using testing::quick_settings;
using testing::RawPeer;
using testing::TestNode;
using wire::FrameKind;
using wire::NodeRole;

// ---- what is malformed, too large, or not for anybody ----

TEST_F(NodeLinksTest, DropsWhatComesBeforeAHello) {
  RawPeer raw = peer(NodeRole::kGateway);
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  EXPECT_TRUE(raw.receive(FrameKind::kGoodbye));
  EXPECT_EQ(context_.wait_refused(Refusal::kMalformed), 1);
  raw.link(kGateway);
}

TEST_F(NodeLinksTest, DropsMalformedFramesAndKeepsTheLink) {
  RawPeer raw = linked_peer();
  const auto bytes = [](std::size_t size) { return wire::Bytes(size, std::byte{0xab}); };
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation;
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.target = "catalog";
  const wire::Bytes head = wire::encode(cast);
  const wire::Bytes body = wire::encode(wire::ResolveModel{"x"});

  raw.send_frames({wire::Bytes()});                             // nothing
  raw.send_frames({bytes(100)});                                // no envelope
  raw.send_frames({bytes(100), bytes(100)});                    // neither
  raw.send_frames({head});                                      // a body is missing
  raw.send_frames({head, body, body});                          // one too many
  raw.send_frames({head, body, body, body, body, body, body});  // many too many
  cast.type = 0;
  raw.send_frames({wire::encode(cast), body});  // a body of no type
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.payload_bytes = 1;
  raw.send_frames({wire::encode(cast), body});  // announces what does not come
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 8);
}

TEST_F(NodeLinksTest, RefusesBodiesThatContradictTheirType) {
  const caf::actor anything =
      registry_->system().spawn([] { return caf::behavior{[](const wire::ResolveModel&) {}}; });
  (*registry_)->publish("anything", anything, Run::kScheduled);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.incarnation = kGateway.incarnation;
  request.target = "anything";
  request.request_id = 1;
  request.type = wire::kTypeOf<wire::ResolveModel>;
  raw.send_frames({wire::encode(request), wire::Bytes(64, std::byte{0xff})});
  auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kCorruptData);

  request.type = wire::kTypeOf<wire::Hello>;  // a message, but none for actors
  raw.send_frames({wire::encode(request), wire::encode(wire::Hello{"x", NodeRole::kGateway, 1})});
  request.type = wire::kTypeOf<wire::ResolveModel>;
  request.request_id = 0;  // no id
  raw.send_frames({wire::encode(request), wire::encode(wire::ResolveModel{"x"})});
  request.request_id = std::uint64_t{1} << 60;  // beyond CAF's
  raw.send_frames({wire::encode(request), wire::encode(wire::ResolveModel{"x"})});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 4);
}

TEST_F(NodeLinksTest, DropsFramesBeyondTheLimits) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation;
  cast.type = wire::kTypeOf<wire::ResolveModel>;
  cast.target = "catalog";
  raw.send_frames({wire::Bytes(4097), wire::encode(wire::ResolveModel{"x"})});
  raw.send_frames({wire::encode(cast), wire::Bytes(wire::kMessageBytesMax + 1)});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kOversized), 2);
}

TEST_F(NodeLinksTest, DropsTheConnectionOfAFrameFarBeyondTheLimits) {
  RawPeer raw = linked_peer();
  raw.send_frames({wire::Bytes(wire::kMessageBytesMax + (2u << 20))});
  EXPECT_EQ(registry_->wait_down().reason, "disconnected");
}

TEST_F(NodeLinksTest, DropsMessagesOfAnotherVersion) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.version = wire::kWireVersion + 1;
  cast.kind = FrameKind::kCast;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kVersion), 1);
}

TEST_F(NodeLinksTest, DropsMessagesOfAnotherStartOfTheNode) {
  RawPeer raw = linked_peer();
  wire::Envelope cast;
  cast.kind = FrameKind::kCast;
  cast.incarnation = kGateway.incarnation + 1;
  cast.target = "catalog";
  raw.send(cast, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kStale), 1);
}

TEST_F(NodeLinksTest, SurvivesBytesThatAreNoZeroMq) {
  zmq::context_t zmq;
  zmq::socket_t stream(zmq, zmq::socket_type::stream);
  stream.set(zmq::sockopt::linger, 0);
  stream.connect(address_);
  zmq::message_t id;
  zmq::message_t empty;
  ASSERT_TRUE(stream.recv(id));
  ASSERT_TRUE(stream.recv(empty));  // connected
  stream.send(id, zmq::send_flags::sndmore);
  stream.send(zmq::str_buffer("GET / HTTP/1.1\r\nHost: registry\r\n\r\n"), zmq::send_flags::none);
  RawPeer raw = linked_peer();
  synchronise(raw);
}

// ---- requests and answers of peers made by hand ----

TEST_F(NodeLinksTest, RefusesARequestWhoseDeadlineHasPassed) {
  restart(quick_settings(),
          [] { return std::chrono::system_clock::time_point(std::chrono::seconds(1000)); });
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "catalog";
  request.request_id = 5;
  request.deadline_unix_ns = 999'999'999'999;
  raw.send(request, wire::ResolveModel{"x"});
  const auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.request_id, 5u);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(context_.wait_refused(Refusal::kStale), 1);
}

TEST_F(NodeLinksTest, SendsDeadlineTraceAndIdWithARequest) {
  NodeSettings settings = quick_settings();
  settings.request_timeout_ms = 60'000;
  restart(settings,
          [] { return std::chrono::system_clock::time_point(std::chrono::seconds(1000)); });
  RawPeer raw = linked_peer();
  const LinkId link = (*registry_)->find(kGateway.name);
  wire::Generate generate;
  generate.trace.trace_id[0] = 42;
  auto answer = std::async(std::launch::async, [&] {
    return ask<wire::Accepted>(registry_->system(),
                               (*registry_)->remote<InferenceActor>(link, "inference"), generate);
  });
  const auto request = raw.receive(FrameKind::kRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->first.target, "inference");
  EXPECT_EQ(request->first.incarnation, 1u);
  EXPECT_EQ(request->first.deadline_unix_ns, 1'060'000'000'000);
  EXPECT_EQ(request->first.trace, generate.trace);
  EXPECT_EQ(request->second, wire::Message(generate));

  wire::Envelope reply;
  reply.kind = FrameKind::kReply;
  reply.request_id = request->first.request_id;
  raw.send(reply, wire::Accepted{17});
  raw.send(reply, wire::Accepted{18});  // once is enough
  EXPECT_EQ(answer.get().value().prompt_tokens, 17u);
  synchronise(raw);
}

TEST_F(NodeLinksTest, FailsRequestsWhoseAnswersAreMalformed) {
  RawPeer raw = linked_peer();
  const LinkId link = (*registry_)->find(kGateway.name);
  const auto ask_raw = [&](const std::function<void(wire::Envelope)>& reply) {
    auto answer = std::async(std::launch::async, [&] {
      return ask<wire::ModelRecord>(registry_->system(),
                                    (*registry_)->remote<CatalogActor>(link, "catalog"),
                                    wire::ResolveModel{"x"});
    });
    const auto request = raw.receive(FrameKind::kRequest);
    wire::Envelope envelope;
    envelope.kind = FrameKind::kReply;
    envelope.incarnation = kGateway.incarnation;
    envelope.request_id = request ? request->first.request_id : 0;
    reply(envelope);
    return answer.get().error().code;
  };

  const auto garbage = ask_raw([&](wire::Envelope reply) {
    reply.type = wire::kTypeOf<wire::ModelRecord>;
    raw.send_frames({wire::encode(reply), wire::Bytes(64, std::byte{0xff})});
  });
  const auto wrong_kind = ask_raw([&](const wire::Envelope& reply) {
    raw.send(reply, wire::ErrorBody{{ErrorCode::kNotFound, "as a reply"}});
  });
  const auto not_for_actors = ask_raw([&](const wire::Envelope& reply) {
    raw.send(reply, wire::Hello{"x", NodeRole::kGateway, 1});
  });
  const auto wrong_type =
      ask_raw([&](const wire::Envelope& reply) { raw.send(reply, wire::Accepted{1}); });

  EXPECT_EQ(garbage, ErrorCode::kCorruptData);
  EXPECT_EQ(wrong_kind, ErrorCode::kCorruptData);
  EXPECT_EQ(not_for_actors, ErrorCode::kCorruptData);
  EXPECT_EQ(wrong_type, ErrorCode::kInternal);  // CAF's own: not what was asked for
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 3);
}

// An actor `silent`, which never answers.
void publish_silent(TestNode& node) {
  const auto silent = node.system().spawn([](caf::event_based_actor* self) {
    return caf::behavior{[self](const wire::ResolveModel&) -> caf::result<wire::ModelRecord> {
      return self->make_response_promise<wire::ModelRecord>();
    }};
  });
  node->publish("silent", silent, Run::kScheduled);
}

TEST_F(NodeLinksTest, RefusesTheSameRequestTwiceAtATime) {
  publish_silent(*registry_);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "silent";
  request.request_id = 1;
  raw.send(request, wire::ResolveModel{"x"});
  raw.send(request, wire::ResolveModel{"x"});
  synchronise(raw);
  EXPECT_EQ(context_.refusals(Refusal::kMalformed), 1);
}

TEST_F(NodeLinksTest, RefusesMoreRequestsOfAPeerThanMayWait) {
  NodeSettings settings = quick_settings();
  settings.requests_max = 2;
  restart(settings);
  publish_silent(*registry_);
  RawPeer raw = linked_peer();
  wire::Envelope request;
  request.kind = FrameKind::kRequest;
  request.target = "silent";
  for (request.request_id = 1; request.request_id <= 3; ++request.request_id) {
    raw.send(request, wire::ResolveModel{"x"});
  }
  const auto answer = raw.receive(FrameKind::kError);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first.request_id, 3u);
  EXPECT_EQ(std::get<wire::ErrorBody>(answer->second).error.code, ErrorCode::kOverloaded);
}

// ---- peers that do not read ----

/// As a peer that takes nothing from its socket: what is sent to it waits with the sender.
class SlowPeerTest : public NodeLinksTest {
 protected:
  SlowPeerTest() {
    NodeSettings settings = quick_settings();
    settings.queue_bytes = 8u << 20;
    restart(settings);
    raw_.emplace(linked_peer());
    link_ = (*registry_)->find(kGateway.name);
    large_.text.assign(1u << 20, 'x');
  }

  std::optional<RawPeer> raw_;
  LinkId link_ = 0;
  wire::Generate large_;
};

TEST_F(SlowPeerTest, RefusesRequestsWhenTooMuchWaits) {
  const auto remote = (*registry_)->remote<InferenceActor>(link_, "inference");
  testing::Events<base::Error> errors;
  const auto asker = registry_->system().spawn([&](caf::event_based_actor* self) {
    for (int i = 0; i < 200; ++i) {
      self->request(remote, caf::infinite, large_)
          .then([](const wire::Accepted&) {},
                [&](const caf::error& error) { errors.add(from_caf(error)); });
    }
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  const auto error = errors.wait();
  caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::kOverloaded);
  registry_.reset();  // while `errors` is there
}

TEST_F(SlowPeerTest, TakesTheLinkDownWhenACastCannotBeKept) {
  const auto remote = (*registry_)->remote<InferenceActor>(link_, "inference");
  for (int i = 0; i < 200; ++i) caf::anon_send(remote, large_);
  EXPECT_EQ(registry_->wait_down().reason, "takes too little of what it is sent");
}

}  // namespace
}  // namespace conclave::fabric
