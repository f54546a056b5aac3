// The ledger and the administration as other services reach them. Both to be spawned detached: the
// catalogue waits for its database.
#pragma once

#include <caf/typed_actor.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "admin_api.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "ledger.hpp"
#include "registry_actor.hpp"
#include "snapshot.hpp"

namespace conclave::registry {

/// The node at the other end of a link.
struct LinkPeer {
  fabric::LinkId link = 0;
  std::string node;  // empty: it is down
  wire::NodeRole role = wire::NodeRole::kOperator;
};

}  // namespace conclave::registry

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::registry::LinkPeer)

namespace conclave::registry {

/// A catalogue's changes are told as what other nodes are told.
using LedgerActor =
    fabric::LedgerActor::extend<caf::reacts_to<LinkPeer>, caf::reacts_to<wire::CatalogChanged>>;

class LedgerState {
 public:
  static constexpr const char* kName = "conclave.registry.ledger";

  /// The node must outlive it.
  LedgerState(LedgerActor::pointer self, std::unique_ptr<Ledger> ledger, fabric::Node& node,
              RegistryMetrics metrics)
      : self_(self), ledger_(std::move(ledger)), node_(node), metrics_(metrics) {}

  LedgerActor::behavior_type make_behavior();

 private:
  /// Who sent what is being handled. kFailedPrecondition: nobody of this role.
  [[nodiscard]] base::Result<std::string> sender(std::initializer_list<wire::NodeRole> roles) const;
  template <class T>
  caf::result<T> answer(const char* request, base::Result<T> outcome);
  void on_peer(const LinkPeer& peer);
  /// Gateways and schedulers keep what they were answered.
  void tell(const LinkPeer& peer);

  LedgerActor::pointer self_;
  std::unique_ptr<Ledger> ledger_;
  fabric::Node& node_;
  RegistryMetrics metrics_;
  std::uint64_t revision_ = 0;  // of the catalogue, as far as it was told
  std::map<fabric::LinkId, LinkPeer> nodes_;
};

/// Answers reads from what it answered before while the database is away, and says so.
class AdminState {
 public:
  // Pages of listings; an administrator's screen, not a mirror.
  static constexpr std::size_t kAnswersMax = 4096;
  static constexpr std::size_t kAnswerBytesMax = std::size_t{64} << 20;

  static constexpr const char* kName = "conclave.registry.admin";

  AdminState(fabric::AdminActor::pointer self, std::unique_ptr<AdminApi> api,
             RegistryMetrics metrics, telemetry::Logger log)
      : self_(self), api_(std::move(api)), metrics_(metrics), log_(std::move(log)) {}

  fabric::AdminActor::behavior_type make_behavior();

 private:
  wire::AdminReply serve(const wire::AdminRequest& request);

  fabric::AdminActor::pointer self_;
  std::unique_ptr<AdminApi> api_;
  RegistryMetrics metrics_;
  telemetry::Logger log_;
  Snapshot<wire::AdminReply> answers_{kAnswersMax, kAnswerBytesMax};
};

}  // namespace conclave::registry
