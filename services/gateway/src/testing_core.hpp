// For tests of GatewayCore: routers and clients that only keep what they are told.
#pragma once

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gateway_core.hpp"
#include "testing_exchange.hpp"

namespace conclave::gateway::testing {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::FinishReason;
using wire::TokenEvent;
using TimePoint = GatewayCore::TimePoint;

inline constexpr RouterId kA{1};
inline constexpr RouterId kB{2};
inline constexpr TimePoint kStart{seconds(1000)};

class FakeRouters final : public RouterPort {
 public:
  struct Sent {
    RouterId router{};
    wire::Generate request;
  };

  std::optional<RouterId> connect(const std::string& address) override {
    if (address.find("bad") != std::string::npos) return std::nullopt;
    connected.push_back(address);
    return RouterId{connected.size()};
  }
  void disconnect(RouterId router) override { disconnected.push_back(router); }
  void generate(RouterId router, const wire::Generate& request) override {
    sent.push_back({router, request});
  }
  void cancel(RouterId, const wire::CancelStream& cancel) override {
    EXPECT_EQ(cancel.gateway, "gw");
    cancelled.push_back(cancel.stream);
  }

  std::vector<std::string> connected;
  std::vector<RouterId> disconnected;
  std::vector<Sent> sent;
  std::vector<std::uint64_t> cancelled;
};

inline wire::NodeStatus router(const std::string& name) {
  wire::NodeStatus status;
  status.report.node = name;
  status.report.role = wire::NodeRole::kRouter;
  status.report.state = wire::NodeState::kReady;
  status.report.address = "tcp://" + name;
  status.report.models = {{.model = {"demo", 1, {}, {}}}};
  return status;
}

inline wire::Fleet fleet_of(std::vector<wire::NodeStatus> nodes) {
  wire::Fleet fleet;
  fleet.models = {{.model = {"demo", 1, "/m.gguf", std::string(64, 'a')}}};
  fleet.nodes = std::move(nodes);
  return fleet;
}

inline TokenEvent token(std::int32_t id, std::string text, std::uint32_t choice = 0) {
  return {.choice = choice, .token = id, .text = std::move(text)};
}
inline TokenEvent end(FinishReason finish = FinishReason::kStop, std::uint32_t choice = 0) {
  return {.choice = choice, .finish = finish};
}
inline TokenEvent failure(ErrorCode code, std::string message) {
  return {.finish = FinishReason::kError, .error = {code, std::move(message)}};
}

/// A core whose fleet has routers a and b, both up.
class GatewayCoreTest : public ::testing::Test {
 protected:
  GatewayCoreTest() {
    core_.fleet(fleet_of({router("a"), router("b")}));
    core_.link_changed(kA, true, now_);
    core_.link_changed(kB, true, now_);
  }

  /// What a client asks for: `prompts` prompts of `n` choices.
  static GenerationRequest request(bool stream, std::size_t prompts = 1, std::uint32_t n = 1) {
    GenerationRequest request;
    request.model = "demo";
    request.format = {.stream = stream, .choices = n};
    for (std::size_t i = 0; i < prompts; ++i) {
      wire::Generate generate;
      generate.model = "demo";
      generate.text = "prompt " + std::to_string(i);
      generate.choices = n;
      request.prompts.push_back(std::move(generate));
    }
    return request;
  }

  std::shared_ptr<FakeExchange> submit(GenerationRequest request, RequestId id = RequestId{1}) {
    auto client = std::make_shared<FakeExchange>();
    const std::size_t prompts = request.prompts.size();
    core_.submit({.id = id,
                  .call = ApiCall(client, Route::kCompletions, "req-1", now_, metrics_),
                  .request = std::move(request),
                  .trace = {.flags = 1},
                  .answer_id = "cmpl-1",
                  .ticket = *admission_->enter(prompts)},
                 now_);
    return client;
  }

  void say(std::uint64_t stream, std::vector<TokenEvent> tokens) {
    wire::TokenEvents events;
    events.streams.push_back({.stream = stream, .tokens = std::move(tokens)});
    core_.events(events, now_);
  }

  [[nodiscard]] std::uint64_t sent_stream(std::size_t index) const {
    return routers_.sent.at(index).request.stream;
  }

  /// With a place among what its tenant may use.
  std::shared_ptr<FakeExchange> submit_counted(std::shared_ptr<quota::Store> store) {
    auto client = std::make_shared<FakeExchange>();
    core_.submit({.id = RequestId{1},
                  .call = ApiCall(client, Route::kCompletions, "req-1", now_, metrics_),
                  .request = request(false),
                  .trace = {},
                  .answer_id = "cmpl-1",
                  .ticket = *admission_->enter(1),
                  .grant = quota::Grant(std::move(store), {.tenant = "acme", .tokens = 100}, {})},
                 now_);
    return client;
  }

  static std::string error_code(const FakeExchange& client) {
    return std::string(boost::json::parse(client.answer->body).at("error").at("code").as_string());
  }

  /// The value of a series in the exposition, as text; empty if it is not there.
  std::string metric(const std::string& series) const {
    const std::string text = "\n" + registry_.expose();
    const std::size_t at = text.find("\n" + series + " ");
    if (at == std::string::npos) return {};
    const std::size_t value = at + series.size() + 2;
    return text.substr(value, text.find('\n', value) - value);
  }

  TimePoint now_ = kStart;
  telemetry::Metrics registry_;
  GatewayMetrics metrics_{registry_};
  GatewayStatus status_;
  FakeRouters routers_;
  const std::shared_ptr<Admission> admission_ = Admission::create(8);
  GatewayCore core_{{"gw", seconds(60), [] { return std::int64_t{1700000000}; }},
                    routers_,
                    metrics_,
                    status_,
                    telemetry::Logger()};
};

}  // namespace conclave::gateway::testing
