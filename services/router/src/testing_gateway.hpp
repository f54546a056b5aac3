// For tests: a gateway that asks one router and keeps what it hears.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/testkit/ask.hpp"
#include "conclave/wire/inference.hpp"

namespace conclave::router {

/// What came of one choice.
struct Heard {
  std::vector<std::int32_t> tokens;
  std::string text;
  std::vector<wire::TokenEvent> events;  // those with a token
  wire::FinishReason finish = wire::FinishReason::kNone;
  base::Error error;
};

/// What came of one stream.
struct HeardStream {
  std::vector<wire::TokenEvent> prompt;
  bool prompt_came_first = true;
  std::vector<Heard> choices;
};

/// Used by the test's thread. The process must outlive it.
class TestGateway {
 public:
  explicit TestGateway(fleet::Process& process, const std::string& name = "gateway-0",
                       const std::string& router = "inproc://router");
  ~TestGateway();
  TestGateway(const TestGateway&) = delete;
  TestGateway& operator=(const TestGateway&) = delete;

  /// As it is but for the gateway's name; waits for the answer.
  base::Result<wire::Accepted> generate(wire::Generate request);
  void cancel(wire::CancelStream cancel);
  base::Result<wire::TokenizeReply> tokenize(const wire::TokenizeRequest& request);
  base::Result<wire::DetokenizeReply> detokenize(const wire::DetokenizeRequest& request);

  /// Waits until so many choices have ended, and forgets all: the number may be used again.
  HeardStream wait(std::uint64_t stream, std::size_t choices = 1);
  /// Waits for the first token.
  void wait_begun(std::uint64_t stream);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::router
