#include "serving_book.hpp"

#include <algorithm>
#include <cmath>

namespace conclave::gateway {

namespace {

std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// FNV-1a: the same on every gateway, so that a user stays where it is on all of them.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

// In (0, 1).
double unit(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) / 9007199254740992.0;
}

// Weighted rendezvous (Schindelhauer, Schomaker 2005): the part with the least time of an
// exponential draw of rate `weight`; each part's is its own, so a weight moves only what it must.
double time_of(std::uint64_t key, const wire::DeploymentSplit& split) {
  return -std::log(unit(mixed(key ^ mixed(hash_of(split.reference))))) /
         static_cast<double>(split.weight);
}

std::uint64_t key_of(const wire::Deployment& deployment, const Requester& who) {
  const std::string_view stays = deployment.sticky == wire::Stickiness::kUser ? who.user
                                 : deployment.sticky == wire::Stickiness::kSession
                                     ? who.session
                                     : std::string_view();
  return stays.empty() ? mixed(who.random) : mixed(hash_of(stays));
}

}  // namespace

void ServingBook::learn(const wire::Fleet& fleet, std::int64_t now_unix_s) {
  if (fleet.models.empty()) return;
  models_ = fleet.models;
  for (const wire::ServedModel& model : models_) {
    created_.try_emplace(model.model.name, now_unix_s);
  }
}

void ServingBook::learn(wire::DeploymentList list, std::int64_t now_unix_s) {
  if (list.unchanged) return;
  list_ = std::move(list);
  std::map<std::pair<std::string, std::string>, wire::ModelVersion> kept;
  for (const wire::Deployment& deployment : list_.deployments) {
    created_.try_emplace(deployment.name, now_unix_s);
    for (const wire::DeploymentSplit& split : deployment.splits) {
      if (auto known = before_.extract({deployment.name, split.reference})) {
        kept.insert(std::move(known));
      }
    }
  }
  before_ = std::move(kept);
  std::erase_if(created_, [&](const auto& entry) {
    const auto is_it = [&](const auto& some) { return some.name == entry.first; };
    return std::ranges::none_of(list_.deployments, is_it) &&
           std::ranges::none_of(models_, [&](const auto& some) { return is_it(some.model); });
  });
}

ServedModel ServingBook::show(std::string_view name, const wire::ModelVersion& version) const {
  constexpr std::size_t kDigits = 12;
  ServedModel shown{std::string(name), {}, 0};
  if (!version.sha256.empty()) shown.fingerprint = "fp_" + version.sha256.substr(0, kDigits);
  const auto known = created_.find(name);
  const auto created = known != created_.end() ? known : created_.find(version.name);
  if (created != created_.end()) shown.created = created->second;
  return shown;
}

// Of what is served; of several that fit, one that is usable.
const wire::ModelVersion* ServingBook::find(std::string_view reference,
                                            const Usable& usable) const {
  const wire::ModelVersion* found = nullptr;
  for (const wire::ServedModel& served : models_) {
    const wire::ModelVersion& model = served.model;
    const bool fits = reference.empty() || reference == model.name ||
                      reference == model.name + ":" + std::to_string(model.version) ||
                      std::ranges::any_of(served.aliases, [&](const std::string& alias) {
                        return reference == model.name + "@" + alias;
                      });
    if (!fits || served.leaving) continue;
    if (usable(model)) return &model;
    if (found == nullptr) found = &model;
  }
  return found;
}

std::optional<ServingBook::Choice> ServingBook::choose(std::string_view name, const Requester& who,
                                                       const Usable& usable) {
  const auto deployment = std::ranges::find(list_.deployments, name, &wire::Deployment::name);
  if (!name.empty() && deployment != list_.deployments.end()) {
    return choose_part(*deployment, who, usable);
  }
  const wire::ModelVersion* version = find(name, usable);
  if (version == nullptr) return std::nullopt;
  return Choice{show(name.empty() ? version->name : name, *version), *version, {}};
}

std::optional<wire::ModelVersion> ServingBook::part(const wire::Deployment& deployment,
                                                    const wire::DeploymentSplit& split,
                                                    const Usable& usable) {
  const std::pair key(deployment.name, split.reference);
  if (split.model.version != 0 && usable(split.model)) {
    before_[key] = split.model;
    return split.model;
  }
  if (const auto before = before_.find(key); before != before_.end() && usable(before->second)) {
    return before->second;
  }
  const wire::ModelVersion* namesake = find(split.model.name, usable);
  if (split.model.version == 0 || namesake == nullptr || !usable(*namesake)) return std::nullopt;
  return *namesake;
}

std::optional<ServingBook::Choice> ServingBook::choose_part(const wire::Deployment& deployment,
                                                            const Requester& who,
                                                            const Usable& usable) {
  const std::uint64_t key = key_of(deployment, who);
  std::vector<std::pair<double, const wire::DeploymentSplit*>> order;
  for (const wire::DeploymentSplit& split : deployment.splits) {
    if (split.weight > 0) order.emplace_back(time_of(key, split), &split);
  }
  std::ranges::sort(order);
  std::optional<wire::ModelVersion> version;
  for (const auto& [time, split] : order) {
    if ((version = part(deployment, *split, usable))) break;
  }
  // Of one that nobody can answer, what it is meant to be.
  if (!version && !order.empty()) version = order.front().second->model;
  if (!version) return std::nullopt;
  Choice choice{show(deployment.name, *version), *std::move(version), {}};
  const bool is_copied = unit(mixed(who.random + 1)) * 100 < deployment.shadow_percent;
  if (is_copied && deployment.shadow.version != 0 && usable(deployment.shadow)) {
    choice.shadow = deployment.shadow;
  }
  return choice;
}

std::vector<ServedModel> ServingBook::shown() const {
  std::vector<ServedModel> shown;
  for (const wire::Deployment& deployment : list_.deployments) {
    const auto split = std::ranges::find_if(
        deployment.splits, [](const auto& part) { return part.model.version != 0; });
    if (split != deployment.splits.end()) shown.push_back(show(deployment.name, split->model));
  }
  if (models_.empty()) return shown;
  const wire::ModelVersion& first = models_.front().model;
  if (std::ranges::find(shown, first.name, &ServedModel::name) == shown.end()) {
    shown.push_back(show(first.name, first));
  }
  return shown;
}

std::vector<wire::ModelVersion> ServingBook::versions() const {
  std::vector<wire::ModelVersion> versions;
  for (const wire::ServedModel& served : models_) {
    if (!served.leaving) versions.push_back(served.model);
  }
  return versions;
}

bool ServingBook::is_gone(const std::string& name, std::uint32_t version) const {
  return !models_.empty() && std::ranges::none_of(models_, [&](const wire::ServedModel& served) {
    return served.model.name == name && served.model.version == version;
  });
}

}  // namespace conclave::gateway
