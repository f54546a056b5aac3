// Which links are up and what leads over them, for threads that are not the lane.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "outbox.hpp"

namespace conclave::fabric {

/// Any thread. The lane adds and removes.
class Directory {
 public:
  Directory(caf::actor_system& system, std::shared_ptr<NodeCore> core);

  void add(LinkId link, std::string node, std::shared_ptr<Outbox> box);
  /// The proxies that lead over the link and are to be killed.
  std::vector<caf::strong_actor_ptr> remove(LinkId link);

  [[nodiscard]] LinkId find(std::string_view node) const;
  /// The proxy of this name: the same as long as the link is up. Dead if it is not.
  caf::actor remote(LinkId link, std::string_view name);

 private:
  struct Entry {
    std::uint64_t order = 0;  // a later `up` has a higher one
    std::string node;
    std::shared_ptr<Outbox> box;
    std::map<std::string, caf::strong_actor_ptr, std::less<>> proxies;
  };

  caf::actor_system& system_;
  const std::shared_ptr<NodeCore> core_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<LinkId, Entry> up_;
  std::uint64_t ups_ = 0;
};

}  // namespace conclave::fabric
