#include "exchange_impl.hpp"

#include <utility>

#include "connection.hpp"

namespace conclave::http {

ExchangeImpl::ExchangeImpl(std::shared_ptr<Connection> connection, std::uint64_t number,
                           Request request)
    : connection_(std::move(connection)), number_(number), request_(std::move(request)) {}

ExchangeImpl::~ExchangeImpl() {
  if (connection_->outbox().abandon(number_)) connection_->wake();
}

void ExchangeImpl::respond(Response response) {
  if (connection_->outbox().respond(number_, std::move(response))) connection_->wake();
}

void ExchangeImpl::begin(Response head) {
  if (connection_->outbox().begin(number_, head)) connection_->wake();
}

bool ExchangeImpl::write(std::string chunk) {
  bool wake = false;
  const bool taken = connection_->outbox().write(number_, chunk, wake);
  if (wake) connection_->wake();
  return taken;
}

void ExchangeImpl::end() {
  if (connection_->outbox().end(number_)) connection_->wake();
}

void ExchangeImpl::on_close(std::function<void()> callback) {
  if (!connection_->outbox().on_close(number_, callback)) callback();
}

}  // namespace conclave::http
