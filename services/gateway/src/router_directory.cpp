#include "router_directory.hpp"

#include <algorithm>

namespace conclave::gateway {

namespace {

// A sequence for which a cache has no room waits for others to end, or takes their room.
constexpr std::uint64_t kFullTokens = 16'384;
// Of a session for its own router: less than one sequence, so that it decides between equals only.
constexpr std::uint64_t kSessionTokens = kSequenceTokens / 2;

// Rendezvous hashing: the router of the greatest draw is the session's, and a router that comes or
// goes moves no other router's sessions.
std::uint64_t draw_of(std::uint64_t session, const std::string& node) {
  std::uint64_t draw = (session ^ std::hash<std::string>{}(node)) * 0x9e3779b97f4a7c15;
  draw = (draw ^ (draw >> 32)) * 0xd6e8feb86659fd93;
  return draw ^ (draw >> 32);
}

}  // namespace

RouterDirectory::Changes RouterDirectory::update(const wire::Fleet& fleet) {
  Changes changes;
  for (auto& [address, router] : routers_) router.listed = false;
  // A scheduler that has just started does not say what it leaves.
  if (!fleet.models.empty()) leaving_.clear();
  for (const wire::ServedModel& model : fleet.models) {
    if (model.leaving) leaving_.push_back(model.model);
  }
  for (const wire::NodeStatus& status : fleet.nodes) {
    const wire::NodeReport& report = status.report;
    if (report.role != wire::NodeRole::kRouter || report.address.empty()) continue;
    const auto [at, is_new] = routers_.try_emplace(report.address);
    Router& router = at->second;
    router.node = report.node;
    router.models = report.models;
    router.reason = report.reason;
    router.ready = report.state == wire::NodeState::kReady;
    router.draining = report.state == wire::NodeState::kDraining;
    const wire::NodeLoad& load = report.load;
    const std::uint64_t has = std::uint64_t{load.running} + load.waiting;
    router.others = has - std::min<std::uint64_t>(has, router.sequences);
    router.kv_tokens_left =
        load.kv_tokens_max == 0  // a report that says nothing of it
            ? ~std::uint64_t{0}
            : load.kv_tokens_max - std::min(load.kv_tokens_used, load.kv_tokens_max);
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

bool RouterDirectory::Router::serves(std::string_view name, std::uint32_t version) const {
  return up && ready && std::ranges::any_of(models, [&](const wire::HostedModel& open) {
           return open.state == wire::NodeState::kReady && open.model.name == name &&
                  (version == 0 || open.model.version == version);
         });
}

bool RouterDirectory::Router::has(std::string_view name) const {
  return std::ranges::any_of(
      models, [&](const wire::HostedModel& open) { return open.model.name == name; });
}

bool RouterDirectory::can_take(const Router& router, const Wanted& wanted) const {
  if (router.serves(wanted.model, wanted.version)) return true;
  return wanted.resumed && router.up && router.ready &&
         std::ranges::any_of(leaving_, [&](const wire::ModelVersion& left) {
           return left.name == wanted.model && left.version == wanted.version;
         });
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

std::uint64_t RouterDirectory::cost(const Router& router, const Wanted& wanted) {
  std::uint64_t tokens = wanted.prompt_tokens;
  const auto known = std::ranges::find(wanted.known, router.link, &KnownPrefix::router);
  if (known != wanted.known.end()) tokens -= std::min(tokens, known->tokens);
  const bool is_full = router.kv_tokens_left < tokens;
  return tokens + kSequenceTokens * (router.sequences + router.others) +
         (is_full ? kFullTokens : 0);
}

// Of all that serve the model, also those that cannot take it now: it shall find back.
const RouterDirectory::Router* RouterDirectory::home(const Wanted& wanted) const {
  const Router* home = nullptr;
  for (const auto& [address, router] : routers_) {
    if (wanted.session == 0 || !router.has(wanted.model)) continue;
    if (home == nullptr ||
        draw_of(wanted.session, router.node) > draw_of(wanted.session, home->node)) {
      home = &router;
    }
  }
  return home;
}

std::optional<RouterId> RouterDirectory::choose(const Wanted& wanted) {
  const Router* const at_home = home(wanted);
  Router* best = nullptr;
  std::uint64_t best_cost = 0;
  for (auto& [address, router] : routers_) {
    if (!can_take(router, wanted)) continue;
    if (std::ranges::find(wanted.tried, router.link) != wanted.tried.end()) continue;
    // Costs of all are raised by what the session's own is spared.
    const std::uint64_t now = cost(router, wanted) + (&router == at_home ? 0 : kSessionTokens);
    const bool better =
        best == nullptr || now < best_cost || (now == best_cost && router.chosen < best->chosen);
    if (!better) continue;
    best = &router;
    best_cost = now;
  }
  if (best == nullptr) return std::nullopt;
  best->chosen = ++choices_;
  return best->link;
}

void RouterDirectory::sequences_opened(RouterId link, std::size_t count) {
  if (Router* router = find(link)) router->sequences += count;
}

void RouterDirectory::sequences_closed(RouterId link, std::size_t count) {
  if (Router* router = find(link)) router->sequences -= std::min(router->sequences, count);
}

bool RouterDirectory::draining(RouterId link) const {
  return std::ranges::any_of(routers_, [&](const auto& entry) {
    return entry.second.link == link && entry.second.draining;
  });
}

std::size_t RouterDirectory::usable(std::string_view model, std::uint32_t version) const {
  return static_cast<std::size_t>(
      std::count_if(routers_.begin(), routers_.end(),
                    [&](const auto& entry) { return entry.second.serves(model, version); }));
}

std::string RouterDirectory::why_not_usable(std::string_view model) const {
  if (routers_.empty()) return "no router is in the fleet";
  for (const auto& [address, router] : routers_) {
    if (router.serves(model, 0)) continue;
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
