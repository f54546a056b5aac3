#include "testing_calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "data_protocol.hpp"

namespace conclave::fabric::testing {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string name_of(Way way) {
  switch (way) {
    case Way::kShared:
      return "Shared";
    case Way::kFrames:
      return "Frames";
    case Way::kFramesUnencrypted:
      return "FramesUnencrypted";
    case Way::kLocalFrames:
      return "LocalFrames";
    case Way::kDirect:
      return "Direct";
  }
  return "?";
}

DataSettings settings_for(Way way) {
  DataSettings settings;
  settings.shared_memory = way == Way::kShared;
  if (way == Way::kFramesUnencrypted) settings.encryption = Encryption::kNone;
  settings.reconnect_ms = 10;
  return settings;
}

std::string road_of(Way way) {
  if (way == Way::kShared) return "shared";
  return way == Way::kDirect ? "direct" : "frames";
}

steady_clock::time_point in_good_time() { return steady_clock::now() + 2 * kPatience; }

wire::ExpertCall call_of(std::uint32_t rows, std::uint32_t hidden, std::uint32_t experts) {
  wire::ExpertCall call;
  call.model_key = 7;
  call.epoch = 3;
  call.layer = 5;
  call.rows = rows;
  call.pairs = rows * experts;
  call.hidden = hidden;
  call.forms = wire::RowForms::kFloats;
  return call;
}

namespace {

float value_of(std::uint32_t seed, std::size_t i) {
  return static_cast<float>((seed * 31 + i) % 1009);
}

}  // namespace

void fill(const wire::ExpertCall& call, std::span<std::byte> payload, std::uint32_t seed) {
  const wire::CallLayout layout = *wire::layout_of(call);
  ASSERT_EQ(payload.size(), layout.bytes);
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(payload.data()) % 64, 0u);
  std::byte* to = payload.data() + layout.pairs;
  for (std::uint32_t i = 0; i < call.pairs; ++i) {
    const CallPair pair{i % call.rows, i / call.rows};  // every expert gets every row
    std::memcpy(to + i * sizeof pair, &pair, sizeof pair);
  }
  for (std::size_t i = 0; i < std::size_t{call.rows} * call.hidden; ++i) {
    const float value = value_of(seed, i);
    std::memcpy(payload.data() + layout.floats + i * sizeof value, &value, sizeof value);
  }
}

std::vector<float> expected_of(const wire::ExpertCall& call, std::uint32_t seed) {
  std::vector<float> y;
  for (std::uint32_t i = 0; i < call.pairs; ++i) {
    for (std::size_t j = 0; j < call.hidden; ++j) {
      const std::size_t at = std::size_t{i % call.rows} * call.hidden + j;
      y.push_back(2 * value_of(seed, at) + static_cast<float>(i / call.rows));
    }
  }
  return y;
}

std::vector<float> floats_of(std::span<const std::byte> payload) {
  std::vector<float> values(payload.size() / sizeof(float));
  if (!values.empty()) {
    std::memcpy(values.data(), payload.data(), values.size() * sizeof(float));
  }
  return values;
}

void compute_and_answer(CallServer& server, IncomingCall& call) {
  const wire::CallLayout layout = *wire::layout_of(call.call);
  const auto* x = reinterpret_cast<const float*>(call.payload.data() + layout.floats);
  auto* y = reinterpret_cast<float*>(call.reply.data());
  for (const CallPair& pair : call.pairs) {
    for (std::size_t j = 0; j < call.call.hidden; ++j) {
      *y++ = 2 * x[std::size_t{pair.row} * call.call.hidden + j] + static_cast<float>(pair.expert);
    }
  }
  wire::ExpertReply reply;
  reply.compute_us = 11;
  reply.batch_pairs = call.call.pairs;
  server.answer(call, reply);
}

Ends::Ends(Way the_way, CallServer::Limits limits) : Ends(the_way, settings_for(the_way), limits) {}

Ends::Ends(Way the_way, const DataSettings& settings, CallServer::Limits limits)
    : way(the_way),
      worker(keys.ring(wire::NodeRole::kExpertWorker)),
      router(keys.ring(wire::NodeRole::kRouter)) {
  server = *CallServer::create(worker.get(), "worker-1", 100, settings, limits);
  client = *CallClient::create(router_context().get(), "router-1", 200, settings);
  if (way == Way::kDirect) {
    address = "direct://worker-1";
    const auto status = server->serve_direct("worker-1", [this](auto calls) {
      for (IncomingCall* call : calls) compute_and_answer(*server, *call);
    });
    EXPECT_TRUE(status) << status.error().message;
  } else {
    address =
        *server->listen(way == Way::kLocalFrames ? "ipc://" + (keys.path() / "worker.ipc").string()
                                                 : "tcp://127.0.0.1:0");
  }
}

std::unique_ptr<CallClient> Ends::another_client(const std::string& name) {
  return *CallClient::create(router_context().get(), name, 201, settings_for(way));
}

DataLinkId Ends::link_up() {
  const auto link = client->connect(address);
  EXPECT_TRUE(link) << link.error().message;
  wait([&](const Happened& event) {
    return event.kind == CallEvent::Kind::kUp && event.link == *link;
  });
  EXPECT_TRUE(client->is_up(*link));
  return *link;
}

CallId Ends::send(DataLinkId link, const wire::ExpertCall& call, std::uint32_t seed,
                  steady_clock::time_point deadline) {
  const auto buffer = client->prepare(link, call);
  EXPECT_TRUE(buffer) << buffer.error().message;
  if (!buffer) return 0;
  fill(call, buffer->payload, seed);
  client->send(buffer->id, {}, deadline);
  return buffer->id;
}

void Ends::step_worker() {
  for (IncomingCall* call : server->poll(steady_clock::now())) {
    if (answering) {
      compute_and_answer(*server, *call);
    } else {
      held.push_back(call);
    }
  }
}

void Ends::step_router() {
  for (const CallEvent& event : client->poll(steady_clock::now() + milliseconds(1))) {
    events.push_back({event.kind, event.link, event.call, event.reply, event.payload,
                      floats_of(event.payload), event.error});
  }
}

void Ends::step() {
  if (server) step_worker();
  step_router();
}

bool Ends::pump(const std::function<bool()>& holds) {
  const auto give_up = steady_clock::now() + kPatience;
  while (!holds()) {
    if (steady_clock::now() > give_up) return false;
    step();
  }
  return true;
}

Happened Ends::wait(const std::function<bool(const Happened&)>& fits) {
  Happened found;
  const bool came = pump([&] {
    const auto event = std::ranges::find_if(events, fits);
    if (event == events.end()) return false;
    found = *event;
    events.erase(event);
    return true;
  });
  EXPECT_TRUE(came) << "waited in vain";
  return found;
}

Happened Ends::wait(CallEvent::Kind kind) {
  return wait([kind](const Happened& event) { return event.kind == kind; });
}

double Ends::calls_that(const std::string& outcome, const std::string& end) {
  TestContext& context = end == "client" ? router_context() : worker;
  return context.value("conclave_fabric_data_calls_total",
                       {{"end", end}, {"road", road_of(way)}, {"outcome", outcome}});
}

double links_of(TestContext& context, const std::string& end, const std::string& road) {
  return context.value("conclave_fabric_data_links", {{"end", end}, {"road", road}}, true);
}

}  // namespace conclave::fabric::testing
