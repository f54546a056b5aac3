// Puts copies of items (mostly the experts of a layer) on workers of limited room: those that are
// there already stay if they may, the rest go where there is most room.
#pragma once

#include <cstdint>
#include <vector>

namespace conclave::placement {

/// How firmly a copy is on a worker before planning.
enum class Holding : std::uint8_t { kNone = 0, kAssigned = 1, kResident = 2 };

struct PlacerInput {
  std::vector<std::uint32_t> copies;  // by item; there must be room and workers for all of them
  bool one_more = false;              // of each item, where there is room left
  std::vector<std::uint32_t> room;    // by worker: most copies it may get, one of an item
  std::vector<Holding> held;          // (worker, item)
  bool may_displace = true;           // whether a copy may move to make room for another item
};

class Placer {
 public:
  explicit Placer(const PlacerInput& input);

  /// (worker, item): 1 where a copy shall be. Every item has its `copies` if may_displace;
  /// otherwise as many as found room without displacing any.
  std::vector<std::uint8_t> place();

 private:
  struct Step;

  [[nodiscard]] std::size_t at(std::uint32_t worker, std::uint32_t item) const {
    return std::size_t{worker} * items_ + item;
  }
  void keep(Holding holding, std::uint32_t copies);
  void fill(std::uint32_t more);
  [[nodiscard]] std::uint32_t most(std::uint32_t item) const {
    return input_.copies[item] + (input_.one_more ? 1 : 0);
  }
  bool put_where_room_is(std::uint32_t item);
  bool displace(std::uint32_t item, Holding firmest);
  void put(std::uint32_t worker, std::uint32_t item);
  void take(std::uint32_t worker, std::uint32_t item);

  const PlacerInput& input_;
  std::uint32_t items_;
  std::uint32_t workers_;
  std::vector<std::uint32_t> room_;    // left, by worker
  std::vector<std::uint32_t> copies_;  // by item
  std::vector<std::uint8_t> placed_;   // (worker, item)
  std::vector<std::uint32_t> rarest_;  // items by rising number of holders
};

}  // namespace conclave::placement
