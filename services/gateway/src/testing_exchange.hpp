// For tests: a client that keeps what it is told.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "conclave/http/exchange.hpp"

namespace conclave::gateway::testing {

class FakeExchange final : public http::Exchange {
 public:
  explicit FakeExchange(http::Request request = {}) : request_(std::move(request)) {}

  [[nodiscard]] const http::Request& request() const override { return request_; }
  void respond(http::Response response) override {
    if (!answer) answer = std::move(response);
  }
  void begin(http::Response head) override {
    if (!answer) answer = std::move(head);
  }
  bool write(std::string chunk) override {
    if (!takes) return false;
    body += chunk;
    ++writes;
    return true;
  }
  void end() override { ended = true; }
  void on_close(std::function<void()> callback) override { close = std::move(callback); }

  std::optional<http::Response> answer;  // or the head of a stream
  std::string body;                      // of a stream
  int writes = 0;
  bool ended = false;
  bool takes = true;            // false: as if it were gone, or too slow
  std::function<void()> close;  // what it would call when it goes

 private:
  const http::Request request_;
};

}  // namespace conclave::gateway::testing
