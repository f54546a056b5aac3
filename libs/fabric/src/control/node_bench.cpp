// The way of a request from an actor to an actor of another node and back, against a bare ZeroMQ
// ping-pong on the same machine in the same run: compare ratios, not microseconds.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <algorithm>
#include <caf/all.hpp>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/fabric/system.hpp"

namespace conclave::fabric {
namespace {

using std::chrono::steady_clock;
using wire::NodeRole;

constexpr int kWarmUps = 500;
constexpr int kRounds = 10'000;
constexpr std::size_t kBytes = 512;  // of the text that goes there and back

using Samples = std::vector<double>;  // microseconds

void report(benchmark::State& state, Samples samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1))];
  };
  state.counters["median_us"] = at(0.5);
  state.counters["p99_us"] = at(0.99);
}

// ---- bare ZeroMQ ----

void BM_Zmq(benchmark::State& state, const char* address, bool curve) {
  zmq::context_t zmq;
  zmq::socket_t server(zmq, zmq::socket_type::router);
  zmq::socket_t client(zmq, zmq::socket_type::dealer);
  const KeyPair server_keys = generate_key_pair();
  const KeyPair client_keys = generate_key_pair();
  if (curve) {
    server.set(zmq::sockopt::curve_server, true);
    server.set(zmq::sockopt::curve_secretkey, server_keys.secret_key);
    client.set(zmq::sockopt::curve_serverkey, server_keys.public_key);
    client.set(zmq::sockopt::curve_publickey, client_keys.public_key);
    client.set(zmq::sockopt::curve_secretkey, client_keys.secret_key);
  }
  server.bind(address);
  client.connect(server.get(zmq::sockopt::last_endpoint));
  std::thread echo([&server] {
    for (;;) {
      zmq::message_t routing;
      zmq::message_t body;
      if (!server.recv(routing) || !server.recv(body) || body.size() == 0) return;
      server.send(routing, zmq::send_flags::sndmore);
      server.send(body, zmq::send_flags::none);
    }
  });
  const std::string text(kBytes, 'x');
  for (auto _ : state) {
    Samples samples;
    for (int i = -kWarmUps; i < kRounds; ++i) {
      const auto begin = steady_clock::now();
      client.send(zmq::buffer(text), zmq::send_flags::none);
      zmq::message_t reply;
      (void)client.recv(reply);
      const std::chrono::duration<double, std::micro> took = steady_clock::now() - begin;
      if (i >= 0) samples.push_back(took.count());
    }
    report(state, std::move(samples));
  }
  client.send(zmq::message_t(), zmq::send_flags::none);
  echo.join();
}

// ---- nodes ----

struct Process {
  Process(std::optional<KeyRing> keys, NodeIdentity identity, Context* shared)
      : own(shared == nullptr
                ? Context::create(std::move(keys), telemetry::Logger(), metrics).value()
                : nullptr),
        context(shared == nullptr ? own.get() : shared),
        node(Node::create(*context, system, std::move(identity), {}).value()) {}
  ~Process() { node->stop(std::chrono::milliseconds{100}); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  telemetry::Metrics metrics;
  std::unique_ptr<Context> own;
  Context* context;
  SystemConfig config;
  caf::actor_system system{config};
  std::unique_ptr<Node> node;
};

CatalogActor::behavior_type echo(CatalogActor::pointer /*self*/) {
  return {[](const wire::RegisterModel&) { return wire::ModelRecord{}; },
          [](const wire::ResolveModel& m) {
            wire::ModelRecord answer;
            answer.architecture = m.reference;
            return answer;
          },
          [](const wire::ListModels&) { return wire::ModelList{}; },
          [](const wire::SetAlias&) { return wire::ModelRecord{}; },
          [](const wire::DigestsRequest&) { return wire::ModelDigests{}; },
          [](const wire::DeploymentsRequest&) { return wire::DeploymentList{}; }};
}

struct Asker {
  CatalogActor server;
  Samples samples;
  int round = -kWarmUps;
  std::promise<Samples> done;
};

void ask(caf::stateful_actor<Asker>* self) {
  const auto begin = steady_clock::now();
  self->request(self->state.server, caf::infinite, wire::ResolveModel{std::string(200, 'x')})
      .then([self, begin](const wire::ModelRecord&) {
        Asker& asker = self->state;
        const std::chrono::duration<double, std::micro> took = steady_clock::now() - begin;
        if (asker.round >= 0) asker.samples.push_back(took.count());
        if (++asker.round < kRounds) return ask(self);
        asker.done.set_value(std::move(asker.samples));
      });
}

void BM_Request(benchmark::State& state, bool tcp, Run run) {
  std::string directory = (std::filesystem::temp_directory_path() / "conclave-XXXXXX").string();
  if (::mkdtemp(directory.data()) == nullptr || !write_keys(directory)) {
    return state.SkipWithError("no keys");
  }
  const auto ring = [&](NodeRole role) {
    return tcp ? std::optional(KeyRing::load(directory, role).value()) : std::nullopt;
  };
  {
    Process registry(ring(NodeRole::kRegistry), {"registry", NodeRole::kRegistry, 1}, nullptr);
    Process gateway(ring(NodeRole::kGateway), {"gateway", NodeRole::kGateway, 1},
                    tcp ? nullptr : registry.context);
    registry.node->publish("catalog", registry.system.spawn(echo), run);
    const auto address =
        registry.node->listen(tcp ? "tcp://127.0.0.1:*" : "inproc://registry").value();
    std::promise<LinkId> up;
    gateway.node->on_link([&up](const LinkEvent& event) {
      if (event.up) up.set_value(event.link);
    });
    (void)gateway.node->connect(address, NodeRole::kRegistry);
    const LinkId link = up.get_future().get();
    for (auto _ : state) {
      std::promise<Samples> done;
      auto samples = done.get_future();
      const auto server = gateway.node->remote<CatalogActor>(link, "catalog");
      const auto asker =
          gateway.system.spawn([&done, &server](caf::stateful_actor<Asker>* self) -> caf::behavior {
            self->state.server = server;
            self->state.done = std::move(done);
            return {[self](const wire::Nudge&) { ask(self); }};
          });
      gateway.node->publish("asker", asker, run);  // so that it hears answers where it runs
      caf::anon_send(asker, wire::Nudge{});
      report(state, samples.get());
      caf::anon_send_exit(asker, caf::exit_reason::user_shutdown);
    }
  }
  std::filesystem::remove_all(directory);
}

BENCHMARK_CAPTURE(BM_Zmq, tcp, "tcp://127.0.0.1:*", false)->Iterations(1);
BENCHMARK_CAPTURE(BM_Zmq, tcp_curve, "tcp://127.0.0.1:*", true)->Iterations(1);
BENCHMARK_CAPTURE(BM_Zmq, inproc, "inproc://echo", false)->Iterations(1);
BENCHMARK_CAPTURE(BM_Request, tcp_curve_scheduled, true, Run::kScheduled)->Iterations(1);
BENCHMARK_CAPTURE(BM_Request, tcp_curve_inline, true, Run::kInline)->Iterations(1);
BENCHMARK_CAPTURE(BM_Request, inproc_scheduled, false, Run::kScheduled)->Iterations(1);
BENCHMARK_CAPTURE(BM_Request, inproc_inline, false, Run::kInline)->Iterations(1);

}  // namespace
}  // namespace conclave::fabric
