#include "refusal_book.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {

namespace {

// Of a reason and a URI: so that their JSON is within what an event may carry.
constexpr std::size_t kTextMax = 512;

wire::AuditEvent event_of(const wire::NodeReport& report, const wire::RefusedExpert& refused) {
  const bool is_backbone = refused.layer == wire::RefusedExpert::kBackbone;
  boost::json::object details{{"node", report.node},
                              {"incarnation", report.incarnation},
                              {"sha256", refused.model.sha256},
                              {"uri", refused.model.uri.substr(0, kTextMax)},
                              {"reason", refused.reason.substr(0, kTextMax)}};
  if (!is_backbone) {
    details["layer"] = refused.layer;
    details["expert"] = refused.index;
  }
  return {is_backbone ? "backbone.refused" : "expert.refused",
          refused.model.name + ":" + std::to_string(refused.model.version),
          boost::json::serialize(details)};
}

}  // namespace

void RefusalBook::observe(const wire::NodeReport& report) {
  if (report.refused.empty()) return;
  Life& life = nodes_[report.node];
  if (life.incarnation != report.incarnation) life = {report.incarnation, {}};
  for (const wire::RefusedExpert& refused : report.refused) {
    if (life.told.size() >= wire::kRefusedMax || waiting_.size() >= kWaitingMax) return;
    const Key key{refused.model.name, refused.model.version, refused.layer, refused.index};
    if (life.told.insert(key).second) waiting_.push_back(event_of(report, refused));
  }
}

std::vector<wire::AuditEvent> RefusalBook::take_events() {
  std::vector<wire::AuditEvent> events(std::make_move_iterator(waiting_.begin()),
                                       std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  return events;
}

void RefusalBook::put_back(wire::AuditEvent event) {
  if (waiting_.size() < kWaitingMax) waiting_.push_back(std::move(event));
}

}  // namespace conclave::scheduler
