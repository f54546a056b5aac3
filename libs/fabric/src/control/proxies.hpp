// Stand-ins for actors of other processes. Their messages are encoded in the thread of whoever
// sends and queued for the lane; nothing here blocks.
#pragma once

#include <caf/actor_proxy.hpp>
#include <memory>
#include <string>

#include "outbox.hpp"

namespace conclave::fabric {

/// An actor that the peer published. Messages that are not for the wire are refused; exit messages
/// (of a linked local actor) end nothing at the other side.
class RemoteProxy final : public caf::actor_proxy {
 public:
  RemoteProxy(caf::actor_config& config, std::shared_ptr<Outbox> box, std::string target);

  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* unit) override;
  void kill_proxy(caf::execution_unit* unit, caf::error reason) override;

 private:
  const std::shared_ptr<Outbox> box_;
  const std::string target_;
};

/// The peer as the sender of what it sends: answers to its requests go to this. One a link; the
/// id of an answer is the id that the peer chose.
class ReplyProxy final : public caf::actor_proxy {
 public:
  ReplyProxy(caf::actor_config& config, std::shared_ptr<Outbox> box);

  [[nodiscard]] LinkId link() const { return box_->link(); }
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* unit) override;
  void kill_proxy(caf::execution_unit* unit, caf::error reason) override;

 private:
  const std::shared_ptr<Outbox> box_;
};

caf::strong_actor_ptr make_remote_proxy(caf::actor_system& system, std::shared_ptr<Outbox> box,
                                        std::string target);
caf::strong_actor_ptr make_reply_proxy(caf::actor_system& system, std::shared_ptr<Outbox> box);

/// Ends a proxy: monitors hear of it, and requests to it fail at once.
void kill(const caf::strong_actor_ptr& proxy, base::Error reason);

}  // namespace conclave::fabric
