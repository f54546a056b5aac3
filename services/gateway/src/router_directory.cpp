#include "router_directory.hpp"

#include <algorithm>

namespace conclave::gateway {

RouterDirectory::Changes RouterDirectory::update(const wire::Fleet& fleet) {
  Changes changes;
  for (auto& [address, router] : routers_) router.listed = false;
  for (const wire::NodeStatus& status : fleet.nodes) {
    const wire::NodeReport& report = status.report;
    if (report.role != wire::NodeRole::kRouter || report.address.empty()) continue;
    const auto [at, is_new] = routers_.try_emplace(report.address);
    Router& router = at->second;
    router.node = report.node;
    router.model = report.model.name;
    router.reason = report.reason;
    router.ready = report.state == wire::NodeState::kReady;
    router.listed = true;
    if (is_new) changes.connect.push_back(report.address);
  }
  for (auto at = routers_.begin(); at != routers_.end();) {
    const Router& router = at->second;
    if (router.listed || router.up) {
      ++at;
      continue;
    }
    changes.disconnect.push_back(router.link);
    at = routers_.erase(at);
  }
  return changes;
}

void RouterDirectory::connected(const std::string& address, RouterId link) {
  const auto at = routers_.find(address);
  if (at != routers_.end()) at->second.link = link;
}

RouterDirectory::Router* RouterDirectory::find(RouterId link) {
  for (auto& [address, router] : routers_) {
    if (router.link == link) return &router;
  }
  return nullptr;
}

void RouterDirectory::link_up(RouterId link) {
  if (Router* router = find(link)) router->up = true;
}

std::optional<RouterId> RouterDirectory::link_down(RouterId link) {
  Router* router = find(link);
  if (router == nullptr) return std::nullopt;
  router->up = false;
  if (router->listed) return std::nullopt;
  std::erase_if(routers_, [&](const auto& entry) { return entry.second.link == link; });
  return link;
}

std::optional<RouterId> RouterDirectory::choose(std::string_view model,
                                                std::span<const RouterId> tried) {
  Router* best = nullptr;
  for (auto& [address, router] : routers_) {
    if (!router.can_take(model)) continue;
    if (std::find(tried.begin(), tried.end(), router.link) != tried.end()) continue;
    const bool better = best == nullptr || router.streams < best->streams ||
                        (router.streams == best->streams && router.chosen < best->chosen);
    if (better) best = &router;
  }
  if (best == nullptr) return std::nullopt;
  best->chosen = ++choices_;
  return best->link;
}

void RouterDirectory::stream_opened(RouterId link) {
  if (Router* router = find(link)) ++router->streams;
}

void RouterDirectory::stream_closed(RouterId link) {
  if (Router* router = find(link); router != nullptr && router->streams > 0) --router->streams;
}

std::size_t RouterDirectory::usable(std::string_view model) const {
  return static_cast<std::size_t>(
      std::count_if(routers_.begin(), routers_.end(),
                    [&](const auto& entry) { return entry.second.can_take(model); }));
}

std::string RouterDirectory::why_not_usable(std::string_view model) const {
  if (routers_.empty()) return "no router is in the fleet";
  for (const auto& [address, router] : routers_) {
    if (router.can_take(model)) continue;
    if (!router.ready) {
      return router.node + " is not ready" +
             (router.reason.empty() ? std::string() : ": " + router.reason);
    }
    if (!router.up) return "no connection to " + router.node;
    return router.node + " does not serve it";
  }
  return {};
}

}  // namespace conclave::gateway
