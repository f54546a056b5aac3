// Whom to ask: the registries, the one that answered last first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "conclave/fabric/node.hpp"

namespace conclave::scheduler {

/// One thread. Any registry answers for all: they share a database.
class RegistryList {
 public:
  explicit RegistryList(std::vector<fabric::LinkId> links) : links_(std::move(links)) {}

  /// 0: there is none.
  [[nodiscard]] fabric::LinkId link() const { return links_.empty() ? 0 : links_.front(); }
  [[nodiscard]] std::size_t size() const { return links_.size(); }

  /// It did not answer: it is asked last from now on.
  void silent(fabric::LinkId link) {
    const auto found = std::ranges::find(links_, link);
    if (found != links_.end()) std::rotate(found, found + 1, links_.end());
  }

 private:
  std::vector<fabric::LinkId> links_;
};

}  // namespace conclave::scheduler
