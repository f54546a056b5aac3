// For tests of the data plane: a router and a worker that one thread drives in turn, so that a test
// decides what happens when. Only ZeroMQ's own threads run beside it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/call_server.hpp"
#include "testing_process.hpp"

namespace conclave::fabric::testing {

/// A way from router to worker, and how it is protected.
enum class Way { kShared, kFrames, kFramesUnencrypted, kLocalFrames, kDirect };
std::string name_of(Way way);
DataSettings settings_for(Way way);
/// What the metrics call it.
std::string road_of(Way way);

std::chrono::steady_clock::time_point in_good_time();

/// A call of so many rows of floats, each row sent to `experts` experts.
wire::ExpertCall call_of(std::uint32_t rows, std::uint32_t hidden, std::uint32_t experts = 2);
/// Writes pairs and rows; what they hold depends on `seed`.
void fill(const wire::ExpertCall& call, std::span<std::byte> payload, std::uint32_t seed);
/// What the test's worker makes of it: y = 2 x + expert.
std::vector<float> expected_of(const wire::ExpertCall& call, std::uint32_t seed);
std::vector<float> floats_of(std::span<const std::byte> payload);

/// Computes as expected_of says and answers.
void compute_and_answer(CallServer& server, IncomingCall& call);

/// An event and a copy of its payload.
struct Happened {
  CallEvent::Kind kind = CallEvent::Kind::kReply;
  DataLinkId link = 0;
  CallId call = 0;
  wire::ExpertReply reply;
  std::span<const std::byte> payload;  // until the call is released
  std::vector<float> y;
  base::Error error{};
};

/// One worker and one router, each with a context of its own (on the direct way they share it).
class Ends {
 public:
  explicit Ends(Way way, CallServer::Limits limits = {});
  Ends(Way way, const DataSettings& settings, CallServer::Limits limits = {});

  Way way;
  KeyDirectory keys;
  TestContext worker;
  TestContext router;
  TestContext& router_context() { return way == Way::kDirect ? worker : router; }

  std::unique_ptr<CallServer> server;
  std::unique_ptr<CallClient> client;
  std::string address;
  std::vector<Happened> events;     // those that no wait took
  std::vector<IncomingCall*> held;  // calls that came while `answering` was off
  bool answering = true;

  /// A further router, with nothing on its links.
  std::unique_ptr<CallClient> another_client(const std::string& name);

  /// Connects and waits for kUp.
  DataLinkId link_up();
  /// Prepares, fills and sends.
  CallId send(DataLinkId link, const wire::ExpertCall& call, std::uint32_t seed,
              std::chrono::steady_clock::time_point deadline = in_good_time());
  /// Drives both ends until such an event came, and takes it out.
  Happened wait(CallEvent::Kind kind);
  Happened wait(const std::function<bool(const Happened&)>& fits);
  /// Drives both ends until this holds. False: never, within kPatience.
  bool pump(const std::function<bool()>& holds);
  /// Drives both ends once.
  void step();
  void step_worker();
  void step_router();

  double calls_that(const std::string& outcome, const std::string& end = "client");
};

/// Counts in the metrics of a context.
double links_of(TestContext& context, const std::string& end, const std::string& road);

}  // namespace conclave::fabric::testing
