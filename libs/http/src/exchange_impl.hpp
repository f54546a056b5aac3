// The Exchange that handlers get: a request, and a number in the outbox of its connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "conclave/http/exchange.hpp"

namespace conclave::http {

class Connection;

class ExchangeImpl final : public Exchange {
 public:
  ExchangeImpl(std::shared_ptr<Connection> connection, std::uint64_t number, Request request);
  ~ExchangeImpl() override;
  ExchangeImpl(const ExchangeImpl&) = delete;
  ExchangeImpl& operator=(const ExchangeImpl&) = delete;

  [[nodiscard]] const Request& request() const override { return request_; }
  void respond(Response response) override;
  void begin(Response head) override;
  bool write(std::string chunk) override;
  void end() override;
  void on_close(std::function<void()> callback) override;

 private:
  const std::shared_ptr<Connection> connection_;
  const std::uint64_t number_;
  const Request request_;
};

}  // namespace conclave::http
