// What actors of two nodes see of each other.
#include "conclave/fabric/node.hpp"

#include <gmock/gmock.h>

#include <future>
#include <numeric>
#include <string>
#include <thread>

#include "testing_process.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using testing::ask;
using testing::KeyDirectory;
using testing::kPatience;
using testing::quick_settings;
using testing::TestContext;
using testing::TestNode;
using wire::NodeRole;

const NodeIdentity kRegistry{"registry-0", NodeRole::kRegistry, 1};
const NodeIdentity kGateway{"gateway-0", NodeRole::kGateway, 1};

wire::ModelRecord record(std::string name) {
  wire::ModelRecord record;
  record.model.name = std::move(name);
  record.model.version = 3;
  return record;
}

/// Answers "missing" with an error, "never" not at all, and anything else with a record.
CatalogActor::behavior_type catalog(CatalogActor::pointer self) {
  return {[](const wire::RegisterModel&) -> caf::result<wire::ModelRecord> {
            return caf::sec::runtime_error;
          },
          [self](const wire::ResolveModel& m) -> caf::result<wire::ModelRecord> {
            if (m.reference == "missing")
              return to_caf({ErrorCode::kNotFound, "no model 'missing'"});
            if (m.reference == "thread") {
              const std::size_t id = std::hash<std::thread::id>()(std::this_thread::get_id());
              wire::ModelRecord answer = record("thread");
              answer.bytes = id;
              return answer;
            }
            if (m.reference == "never") {
              auto promise = self->make_response_promise<wire::ModelRecord>();
              return promise;
            }
            return record(m.reference);
          },
          [](const wire::ListModels&) -> caf::result<wire::ModelList> {
            return to_caf({ErrorCode::kInternal, std::string(100'000, 'x')});
          },
          [](const wire::SetAlias& m) -> caf::result<wire::ModelRecord> { return record(m.name); },
          [](const wire::DigestsRequest& m) -> caf::result<wire::ModelDigests> {
            wire::ModelDigests digests;
            digests.model.name = m.name;
            digests.layers = 100;
            digests.experts = 256;
            digests.expert.resize(25'600);
            return digests;
          },
          [](const wire::DeploymentsRequest&) { return wire::DeploymentList{}; }};
}

enum class Transport { kTcp, kInproc, kDirect };

const char* name_of(Transport transport) {
  switch (transport) {
    case Transport::kTcp:
      return "Tcp";
    case Transport::kInproc:
      return "Inproc";
    case Transport::kDirect:
      return "Direct";
  }
  return "";
}

/// Two nodes and a link between them: over TCP with keys, or inside one context.
class NodeTest : public ::testing::TestWithParam<Transport> {
 protected:
  NodeTest() { restart_gateway(quick_settings()); }

  static std::string own_address() {
    if (GetParam() == Transport::kTcp) return "tcp://127.0.0.1:*";
    return GetParam() == Transport::kInproc ? "inproc://registry" : "direct://registry";
  }

  void restart_gateway(const NodeSettings& settings) {
    gateway_.reset();
    registry_.reset();
    const bool tcp = GetParam() == Transport::kTcp;
    if (tcp) {
      keys_ = std::make_unique<KeyDirectory>();
      server_context_ = std::make_unique<TestContext>(keys_->ring(NodeRole::kRegistry));
      client_context_ = std::make_unique<TestContext>(keys_->ring(NodeRole::kGateway));
    } else {
      server_context_ = std::make_unique<TestContext>();
    }
    registry_ = std::make_unique<TestNode>(*server_context_, kRegistry, settings);
    gateway_ =
        std::make_unique<TestNode>(tcp ? *client_context_ : *server_context_, kGateway, settings);
    registry_->operator*().publish("catalog", registry_->system().spawn(catalog), Run::kScheduled);
    address_ = (*registry_)->listen(own_address()).value();
    link_ = (*gateway_)->connect(address_, NodeRole::kRegistry).value();
    EXPECT_EQ(gateway_->wait_up().link, link_);
    EXPECT_EQ(registry_->wait_up().peer, kGateway);
  }

  CatalogActor remote() { return (*gateway_)->remote<CatalogActor>(link_, "catalog"); }
  base::Result<wire::ModelRecord> resolve(const std::string& reference) {
    return ask<wire::ModelRecord>(gateway_->system(), remote(), wire::ResolveModel{reference});
  }
  TestContext& client_context() { return client_context_ ? *client_context_ : *server_context_; }

  std::unique_ptr<KeyDirectory> keys_;
  std::unique_ptr<TestContext> server_context_;
  std::unique_ptr<TestContext> client_context_;
  std::unique_ptr<TestNode> registry_;
  std::unique_ptr<TestNode> gateway_;
  std::string address_;
  LinkId link_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Transports, NodeTest,
                         ::testing::Values(Transport::kTcp, Transport::kInproc, Transport::kDirect),
                         [](const auto& transport) { return name_of(transport.param); });

TEST_P(NodeTest, AnswersRequests) {
  const auto answer = resolve("olmoe@production");
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(*answer, record("olmoe@production"));
}

TEST_P(NodeTest, CarriesLargeAnswersWhole) {
  const auto answer =
      ask<wire::ModelDigests>(gateway_->system(), remote(), wire::DigestsRequest{"olmoe", 3});
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->model.name, "olmoe");
  EXPECT_EQ(answer->expert.size(), 25'600u);
}

TEST_P(NodeTest, CarriesErrorsOfHandlersWithCodeAndText) {
  const auto answer = resolve("missing");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error(), (base::Error{ErrorCode::kNotFound, "no model 'missing'"}));
}

TEST_P(NodeTest, CutsErrorTextsThatAreTooLong) {
  const auto answer = ask<wire::ModelList>(gateway_->system(), remote(), wire::ListModels{});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kInternal);
  EXPECT_THAT(answer.error().message, ::testing::StartsWith("xxxx"));
  EXPECT_LE(answer.error().message.size(), 4096u);
}

TEST_P(NodeTest, MakesForeignErrorsInternal) {
  const auto answer = ask<wire::ModelRecord>(gateway_->system(), remote(), wire::RegisterModel{});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kInternal);
}

TEST_P(NodeTest, SaysThatAnActorDoesNotExist) {
  const auto nobody = (*gateway_)->remote<CatalogActor>(link_, "nobody");
  const auto answer = ask<wire::ModelRecord>(gateway_->system(), nobody, wire::ResolveModel{"x"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(server_context_->wait_refused(Refusal::kUnknownTarget), 1);
}

TEST_P(NodeTest, RefusesMessagesThatTheTypedActorDoesNotTake) {
  (*registry_)->publish("typed", registry_->system().spawn(catalog), Run::kScheduled);
  const auto wrong = (*gateway_)->remote<FleetActor>(link_, "typed");
  const auto answer = ask<wire::Fleet>(gateway_->system(), wrong, wire::FleetRequest{});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnimplemented);
}

TEST_P(NodeTest, MakesUnexpectedMessagesUnimplemented) {
  const caf::actor untyped = registry_->system().spawn([](caf::event_based_actor* self) {
    self->set_default_handler(caf::drop);
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  (*registry_)->publish("untyped", untyped, Run::kScheduled);
  const auto wrong = (*gateway_)->remote<FleetActor>(link_, "untyped");
  const auto answer = ask<wire::Fleet>(gateway_->system(), wrong, wire::FleetRequest{});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnimplemented);
}

TEST_P(NodeTest, PublishesForTheNamedRolesOnly) {
  const auto hidden = registry_->system().spawn(catalog);
  const std::array operators = {NodeRole::kOperator};
  (*registry_)->publish("hidden", hidden, Run::kScheduled, operators);
  const std::array both = {NodeRole::kOperator, NodeRole::kGateway};
  (*registry_)->publish("shown", hidden, Run::kScheduled, both);

  const auto refused =
      ask<wire::ModelRecord>(gateway_->system(), (*gateway_)->remote<CatalogActor>(link_, "hidden"),
                             wire::ResolveModel{"x"});
  const auto allowed =
      ask<wire::ModelRecord>(gateway_->system(), (*gateway_)->remote<CatalogActor>(link_, "shown"),
                             wire::ResolveModel{"x"});

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(server_context_->wait_refused(Refusal::kWrongRole), 1);
  EXPECT_TRUE(allowed);
}

TEST_P(NodeTest, DeliversCastsInOrderAndTellsTheirLink) {
  struct Heard {
    std::uint64_t epoch;
    LinkId link;
  };
  testing::Events<Heard> heard;
  const auto reporter = registry_->system().spawn([&](ReporterActor::pointer self) {
    return ReporterActor::behavior_type{[&heard, self](const wire::Nudge& nudge) {
      heard.add({nudge.epoch, link_of(self->current_sender())});
    }};
  });
  (*registry_)->publish("reporter", reporter, Run::kScheduled);
  const auto remote_reporter = (*gateway_)->remote<ReporterActor>(link_, "reporter");

  for (std::uint64_t epoch = 1; epoch <= 1000; ++epoch) {
    caf::anon_send(remote_reporter, wire::Nudge{epoch});
  }

  const LinkId link = (*registry_)->find("gateway-0");
  EXPECT_NE(link, 0u);
  for (std::uint64_t epoch = 1; epoch <= 1000; ++epoch) {
    const auto next = heard.wait();
    ASSERT_TRUE(next);
    ASSERT_EQ(next->epoch, epoch);
    ASSERT_EQ(next->link, link);
  }
}

TEST_P(NodeTest, LetsTheServerAskTheClient) {
  (*gateway_)->publish("catalog", gateway_->system().spawn(catalog), Run::kScheduled);
  const LinkId back = (*registry_)->find("gateway-0");
  const auto answer = ask<wire::ModelRecord>(registry_->system(),
                                             (*registry_)->remote<CatalogActor>(back, "catalog"),
                                             wire::ResolveModel{"from the registry"});
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->model.name, "from the registry");
}

TEST_P(NodeTest, AnswersRequestsToHandlersWithoutAnAnswer) {
  const auto reporter = registry_->system().spawn([](ReporterActor::pointer) {
    return ReporterActor::behavior_type{[](const wire::Nudge&) {}};
  });
  (*registry_)->publish("reporter", reporter, Run::kScheduled);
  caf::scoped_actor self{gateway_->system()};
  bool answered = false;
  self->request((*gateway_)->remote<ReporterActor>(link_, "reporter"), kPatience, wire::Nudge{1})
      .receive([&] { answered = true; },
               [](const caf::error& error) { FAIL() << from_caf(error).to_string(); });
  EXPECT_TRUE(answered);
}

TEST_P(NodeTest, RefusesWhatIsNotForTheWire) {
  caf::scoped_actor self{gateway_->system()};
  base::Error error;
  self->request((*gateway_)->remote(link_, "catalog"), kPatience, std::string("hello"))
      .receive([](const std::string&) { FAIL(); },
               [&](const caf::error& e) { error = from_caf(e); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
}

TEST_P(NodeTest, FailsRequestsInFlightWhenThePeerStops) {
  std::promise<base::Error> failed;
  auto asker = gateway_->system().spawn([&](caf::event_based_actor* self) {
    self->request(remote(), caf::infinite, wire::ResolveModel{"never"})
        .then([](const wire::ModelRecord&) {},
              [&failed](const caf::error& error) { failed.set_value(from_caf(error)); });
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  ASSERT_TRUE(resolve("a later one that is answered"));

  (*registry_)->stop(std::chrono::milliseconds{0});

  auto error = failed.get_future();
  ASSERT_EQ(error.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(error.get().code, ErrorCode::kUnavailable);
  EXPECT_EQ(gateway_->wait_down().link, link_);
  caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
}

TEST_P(NodeTest, RefusesRequestsToALinkThatIsDownAtOnce) {
  const auto before = remote();
  (*registry_)->stop(std::chrono::milliseconds{0});
  gateway_->wait_down();
  for (const auto& proxy : {before, remote()}) {
    const auto answer = ask<wire::ModelRecord>(gateway_->system(), proxy, wire::ResolveModel{"x"});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
  }
  EXPECT_EQ((*gateway_)->find("registry-0"), 0u);
}

TEST_P(NodeTest, TellsMonitorsOfTheEnd) {
  caf::scoped_actor self{gateway_->system()};
  const auto proxy = remote();
  self->monitor(proxy);
  ASSERT_TRUE(resolve("x"));
  (*registry_)->stop(std::chrono::milliseconds{0});
  base::Error reason;
  self->receive([&](const caf::down_msg& down) { reason = from_caf(down.reason); },
                caf::after(kPatience) >> [] { FAIL(); });
  EXPECT_EQ(reason.code, ErrorCode::kUnavailable);
  self->monitor(proxy);  // a dead one tells at once
  self->receive([&](const caf::down_msg&) {}, caf::after(kPatience) >> [] { FAIL(); });
}

TEST_P(NodeTest, TellsMonitorsOfARequester) {
  std::promise<void> gone;
  const auto watcher = registry_->system().spawn([&](caf::event_based_actor* self) {
    self->set_down_handler([&gone](caf::down_msg&) { gone.set_value(); });
    return caf::behavior{[self](const wire::Nudge&) { self->monitor(self->current_sender()); }};
  });
  (*registry_)->publish("watcher", watcher, Run::kScheduled);
  caf::scoped_actor self{gateway_->system()};
  self->request((*gateway_)->remote(link_, "watcher"), kPatience, wire::Nudge{1})
      .receive([] {}, [](const caf::error& e) { FAIL() << from_caf(e).to_string(); });
  (*gateway_)->stop(std::chrono::milliseconds{0});
  EXPECT_EQ(gone.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_P(NodeTest, StopWaitsForRequestsInWork) {
  testing::Events<caf::typed_response_promise<wire::Fleet>> began;
  const auto slow = registry_->system().spawn([&](caf::event_based_actor* self) {
    self->set_default_handler(caf::drop);
    auto promise = std::make_shared<caf::typed_response_promise<wire::Fleet>>();
    return caf::behavior{[self, promise, &began](const wire::FleetRequest&) {
                           *promise = self->make_response_promise<wire::Fleet>();
                           began.add(*promise);
                           return *promise;
                         },
                         [promise](const wire::Nudge&) { promise->deliver(wire::Fleet{}); }};
  });
  (*registry_)->publish("slow", slow, Run::kScheduled);
  auto answer = std::async(std::launch::async, [&] {
    return ask<wire::Fleet>(gateway_->system(), (*gateway_)->remote(link_, "slow"),
                            wire::FleetRequest{});
  });
  ASSERT_TRUE(began.wait());

  auto stopped = std::async(std::launch::async, [&] { (*registry_)->stop(kPatience); });
  const auto refused = resolve("while it stops");
  caf::anon_send(slow, wire::Nudge{});

  EXPECT_TRUE(answer.get());
  EXPECT_EQ(stopped.wait_for(kPatience), std::future_status::ready);
  // Either it was there before the node began to stop, or it was refused.
  if (!refused) {
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  }
}

TEST_P(NodeTest, FailsWhatNobodyAnswersAfterTheRequestTimeout) {
  NodeSettings settings = quick_settings();
  settings.request_timeout_ms = 50;
  restart_gateway(settings);
  caf::scoped_actor self{gateway_->system()};
  base::Error error;
  self->request(remote(), caf::infinite, wire::ResolveModel{"never"})
      .receive([](const wire::ModelRecord&) { FAIL(); },
               [&](const caf::error& e) { error = from_caf(e); });
  EXPECT_EQ(error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ((*gateway_)->find("registry-0"), link_);  // the link lives on
}

TEST_P(NodeTest, RefusesMoreRequestsThanMayWait) {
  NodeSettings settings = quick_settings();
  settings.requests_max = 3;
  restart_gateway(settings);
  testing::Events<base::Error> errors;
  const auto asker = gateway_->system().spawn([&](caf::event_based_actor* self) {
    for (int i = 0; i < 5; ++i) {
      self->request(remote(), caf::infinite, wire::ResolveModel{"never"})
          .then([](const wire::ModelRecord&) {},
                [&errors](const caf::error& error) { errors.add(from_caf(error)); });
    }
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  for (int i = 0; i < 2; ++i) {
    const auto error = errors.wait();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, ErrorCode::kOverloaded);
  }
  (*gateway_)->disconnect(link_);
  for (int i = 0; i < 3; ++i) {
    const auto error = errors.wait();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, ErrorCode::kUnavailable);
  }
  caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
}

TEST_P(NodeTest, KeepsNothingOfRequestsThatWereAnswered) {
  constexpr int kRequests = 5000;
  std::promise<int> done;
  const auto asker = gateway_->system().spawn([&](caf::event_based_actor* self) {
    auto answers = std::make_shared<int>(0);
    auto failures = std::make_shared<int>(0);
    const auto count = [answers, failures, &done] {
      if (++*answers == kRequests) done.set_value(*failures);
    };
    for (int i = 0; i < kRequests; ++i) {
      self->request(remote(), caf::infinite, wire::ResolveModel{"m"})
          .then([count](const wire::ModelRecord&) { count(); },
                [count, failures](const caf::error&) {
                  ++*failures;
                  count();
                });
    }
    return caf::behavior{[](const wire::Nudge&) {}};
  });
  auto failures = done.get_future();
  ASSERT_EQ(failures.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(failures.get(), 0);
  EXPECT_EQ(client_context().value("conclave_fabric_requests_in_flight", {}, true), 0);
  EXPECT_EQ(client_context().value("conclave_fabric_messages_total",
                                   {{"direction", "out"}, {"kind", "request"}}),
            kRequests);
  caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
}

TEST_P(NodeTest, RunsInlineActorsOnItsLaneAndOthersOnTheScheduler) {
  testing::Events<std::size_t> lane_thread;
  (*registry_)->on_link([&](const LinkEvent&) {
    lane_thread.add(std::hash<std::thread::id>()(std::this_thread::get_id()));
  });
  const auto lane = lane_thread.wait();
  ASSERT_TRUE(lane);
  (*registry_)->publish("inline", registry_->system().spawn(catalog), Run::kInline);
  const auto runs_on_lane = [&](const char* name) {
    const auto answer =
        ask<wire::ModelRecord>(gateway_->system(), (*gateway_)->remote<CatalogActor>(link_, name),
                               wire::ResolveModel{"thread"});
    return answer.value().bytes == *lane;
  };

  // An actor that a worker runs at the moment takes what comes in there: often, not always.
  int on_lane = 0;
  for (int i = 0; i < 100; ++i) on_lane += runs_on_lane("inline") ? 1 : 0;
  // Where messages pass no lane, none runs an actor.
  EXPECT_EQ(on_lane > 0, GetParam() != Transport::kDirect);
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(runs_on_lane("catalog"));
  registry_.reset();  // while what its listener uses is there
}

TEST_P(NodeTest, TellsALaterListenerOfLinksThatAreUp) {
  testing::Events<LinkEvent> events;
  (*gateway_)->on_link([&](const LinkEvent& event) { events.add(event); });
  const auto event = events.wait();
  ASSERT_TRUE(event);
  EXPECT_TRUE(event->up);
  EXPECT_EQ(event->link, link_);
  EXPECT_EQ(event->peer, kRegistry);
  (*gateway_)->stop(std::chrono::milliseconds{0});
}

TEST_P(NodeTest, CountsLinksAndBytes) {
  ASSERT_TRUE(resolve("x"));
  EXPECT_EQ(client_context().value("conclave_fabric_links", {}, true),
            GetParam() == Transport::kTcp ? 1 : 2);
  for (const char* kind : {"request", "reply"}) {
    EXPECT_GT(client_context().value("conclave_fabric_messages_total",
                                     {{"direction", "in"}, {"kind", kind}}) +
                  client_context().value("conclave_fabric_messages_total",
                                         {{"direction", "out"}, {"kind", kind}}),
              0)
        << kind;
  }
  if (GetParam() == Transport::kDirect) return;  // nothing is encoded
  EXPECT_GT(client_context().value("conclave_fabric_bytes_total", {{"direction", "out"}}), 100);
  EXPECT_GT(client_context().value("conclave_fabric_bytes_total", {{"direction", "in"}}), 100);
}

TEST_P(NodeTest, ComesDownCleanlyWithLinksAlive) {
  // What holds proxies, and asks over and over, is still there when the node and system end.
  struct Holder {
    CatalogActor proxy;
  };
  const auto holder = gateway_->system().spawn([this](caf::stateful_actor<Holder>* self) {
    self->state.proxy = remote();
    self->monitor(self->state.proxy);
    self->set_down_handler([](caf::down_msg&) {});
    return caf::behavior{[self](const wire::Nudge&) {
      self->request(self->state.proxy, caf::infinite, wire::ResolveModel{"never"})
          .then([](const wire::ModelRecord&) {}, [](const caf::error&) {});
    }};
  });
  for (int i = 0; i < 10; ++i) caf::anon_send(holder, wire::Nudge{});
  ASSERT_TRUE(resolve("x"));
  (*gateway_)->stop(std::chrono::milliseconds{10});
  for (int i = 0; i < 10; ++i) caf::anon_send(holder, wire::Nudge{});
  caf::anon_send_exit(holder, caf::exit_reason::user_shutdown);
}

TEST_P(NodeTest, RefusesWorkAfterTheStop) {
  (*gateway_)->stop(std::chrono::milliseconds{0});
  EXPECT_EQ((*gateway_)->connect(address_, NodeRole::kRegistry).error().code,
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ((*gateway_)->listen("inproc://late").error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(resolve("x").error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::fabric
