#include "proxies.hpp"

#include <caf/all.hpp>
#include <utility>

#include "caf_message.hpp"
#include "conclave/fabric/caf_error.hpp"

namespace conclave::fabric {

using base::ErrorCode;

RemoteProxy::RemoteProxy(caf::actor_config& config, std::shared_ptr<Outbox> box, std::string target)
    : caf::actor_proxy(config), box_(std::move(box)), target_(std::move(target)) {}

void RemoteProxy::enqueue(caf::mailbox_element_ptr what, caf::execution_unit* unit) {
  auto message = take_message(what->content());
  const bool is_request = what->mid.is_request();
  const Requester requester{what->sender, what->mid.response_id()};
  if (!message || std::holds_alternative<std::monostate>(*message)) {
    if (is_request) {
      fail_request(requester, {ErrorCode::kInvalidArgument, "not a message of the wire"});
    }
    return;
  }
  if (!is_request) return box_->cast(target_, std::move(*message), unit);
  auto posted = box_->request(target_, std::move(*message), requester, unit);
  if (!posted) fail_request(requester, std::move(posted).error().within(target_));
}

void RemoteProxy::kill_proxy(caf::execution_unit* unit, caf::error reason) {
  cleanup(std::move(reason), unit);
}

ReplyProxy::ReplyProxy(caf::actor_config& config, std::shared_ptr<Outbox> box)
    : caf::actor_proxy(config), box_(std::move(box)) {}

void ReplyProxy::enqueue(caf::mailbox_element_ptr what, caf::execution_unit* unit) {
  if (!what->mid.is_response()) return;  // the peer is no actor that could take it
  const std::uint64_t request_id = what->mid.request_id().integer_value();
  const auto& content = what->content();
  if (content.match_elements<caf::error>()) {
    return box_->reply(request_id, wire::ErrorBody{from_caf(content.get_as<caf::error>(0))}, unit);
  }
  auto message = take_message(what->content());
  if (!message) {
    message = wire::ErrorBody{{ErrorCode::kInternal, "the answer is no message of the wire"}};
  }
  box_->reply(request_id, std::move(*message), unit);
}

void ReplyProxy::kill_proxy(caf::execution_unit* unit, caf::error reason) {
  cleanup(std::move(reason), unit);
}

caf::strong_actor_ptr make_remote_proxy(caf::actor_system& system, std::shared_ptr<Outbox> box,
                                        std::string target) {
  caf::actor_config config;
  return caf::make_actor<RemoteProxy, caf::strong_actor_ptr>(
      system.next_actor_id(), system.node(), &system, config, std::move(box), std::move(target));
}

caf::strong_actor_ptr make_reply_proxy(caf::actor_system& system, std::shared_ptr<Outbox> box) {
  caf::actor_config config;
  return caf::make_actor<ReplyProxy, caf::strong_actor_ptr>(system.next_actor_id(), system.node(),
                                                            &system, config, std::move(box));
}

void kill(const caf::strong_actor_ptr& proxy, base::Error reason) {
  auto* actor = dynamic_cast<caf::actor_proxy*>(caf::actor_cast<caf::abstract_actor*>(proxy));
  actor->kill_proxy(nullptr, to_caf(std::move(reason)));
}

LinkId link_of(const caf::strong_actor_ptr& sender) {
  const auto* proxy = dynamic_cast<ReplyProxy*>(caf::actor_cast<caf::abstract_actor*>(sender));
  return proxy == nullptr ? 0 : proxy->link();
}

}  // namespace conclave::fabric
