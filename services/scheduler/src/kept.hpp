// What a scheduler must not forget with its process, as a document that the registry keeps: what
// people said of workers and experts, and the last placements.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "placement_history.hpp"

namespace conclave::scheduler {

/// What people say of a worker.
enum class Standing : std::uint8_t {
  kInService,  // as all are at first
  kCordoned,   // keeps what it has and gets nothing new
  kDraining,   // what it has moves elsewhere, and then away from it
};
/// "name:version"
std::string name_of(const wire::ModelVersion& version);
/// "in-service", "cordoned", "draining"
std::string_view name_of(Standing standing);

struct KeptModel {
  std::vector<placement::Pin> pins;  // of people
  std::deque<Placement> placements;  // the oldest first

  friend bool operator==(const KeptModel&, const KeptModel&) = default;
};

struct Kept {
  std::map<std::string, Standing> standings;  // of those that are not in service, by worker
  std::map<std::string, KeptModel> models;    // by "name:version"

  friend bool operator==(const Kept&, const Kept&) = default;
};

/// JSON of at most `bytes_max`: where that is too little, old placements are left out, the oldest
/// first, and then all.
std::string to_document(const Kept& kept, std::size_t bytes_max);
/// kCorruptData: it is none, or says what cannot be. An empty document keeps nothing.
base::Result<Kept> from_document(std::string_view document);

}  // namespace conclave::scheduler
