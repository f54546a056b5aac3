#include "directory.hpp"

#include <caf/all.hpp>
#include <utility>

#include "proxies.hpp"

namespace conclave::fabric {

using base::ErrorCode;

Directory::Directory(caf::actor_system& system, std::shared_ptr<NodeCore> core)
    : system_(system), core_(std::move(core)) {}

void Directory::add(LinkId link, std::string node, std::shared_ptr<Outbox> box) {
  const std::lock_guard lock(mutex_);
  up_[link] = Entry{++ups_, std::move(node), std::move(box), {}};
}

std::vector<caf::strong_actor_ptr> Directory::remove(LinkId link) {
  std::vector<caf::strong_actor_ptr> proxies;
  const std::lock_guard lock(mutex_);
  if (const auto found = up_.find(link); found != up_.end()) {
    for (auto& [name, proxy] : found->second.proxies) proxies.push_back(std::move(proxy));
    up_.erase(found);
  }
  return proxies;
}

LinkId Directory::find(std::string_view node) const {
  const std::lock_guard lock(mutex_);
  LinkId newest = 0;
  std::uint64_t order = 0;
  for (const auto& [link, entry] : up_) {
    if (entry.node == node && entry.order > order) {
      newest = link;
      order = entry.order;
    }
  }
  return newest;
}

caf::actor Directory::remote(LinkId link, std::string_view name) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = up_.find(link); found != up_.end()) {
      Entry& entry = found->second;
      auto proxy = entry.proxies.find(name);
      if (proxy == entry.proxies.end()) {
        std::string target(name);
        auto made = make_remote_proxy(system_, entry.box, target);
        proxy = entry.proxies.emplace(std::move(target), std::move(made)).first;
      }
      return caf::actor_cast<caf::actor>(proxy->second);
    }
  }
  auto box = std::make_shared<Outbox>(core_, link, nullptr, nullptr);
  box->close();
  const auto dead = make_remote_proxy(system_, std::move(box), std::string(name));
  kill(dead, {ErrorCode::kUnavailable, "the link is down"});
  return caf::actor_cast<caf::actor>(dead);
}

}  // namespace conclave::fabric
