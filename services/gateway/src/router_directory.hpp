// Which routers there are, which of them can take a stream now, and how many each has. Pure: what
// the scheduler and the links say comes in, whom to connect to comes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/wire/placement.hpp"

namespace conclave::gateway {

/// The link to a router: fabric::LinkId. 0: none.
enum class RouterId : std::uint64_t {};

/// A router is known by its address. It is forgotten when the scheduler no longer lists it and its
/// link is down: a scheduler that has just started knows nobody, and no stream shall suffer for it.
/// One thread. Bounded by wire::kNodesMax.
class RouterDirectory {
 public:
  struct Changes {
    std::vector<std::string> connect;  // addresses; connected() is to follow for each
    std::vector<RouterId> disconnect;
  };

  /// What the scheduler says now.
  Changes update(const wire::Fleet& fleet);
  void connected(const std::string& address, RouterId link);
  void link_up(RouterId link);
  /// The link to disconnect for good, if the scheduler does not list the router any more.
  std::optional<RouterId> link_down(RouterId link);

  /// The router of `model` with the least streams open, the longest unchosen of equals, without
  /// those in `tried`.
  [[nodiscard]] std::optional<RouterId> choose(std::string_view model,
                                               std::span<const RouterId> tried);
  void stream_opened(RouterId link);
  void stream_closed(RouterId link);

  /// Routers that could be chosen now.
  [[nodiscard]] std::size_t usable(std::string_view model) const;
  /// `r1 is loading the model` or the like, of the first one that cannot be chosen, for people.
  [[nodiscard]] std::string why_not_usable(std::string_view model) const;

 private:
  struct Router {
    std::string node;
    std::string model;
    std::string reason;  // of the scheduler's list: why it is not ready
    bool ready = false;
    bool listed = false;
    bool up = false;
    RouterId link{};
    std::size_t streams = 0;
    std::uint64_t chosen = 0;  // when, counted in choices

    [[nodiscard]] bool can_take(std::string_view name) const {
      return up && ready && model == name;
    }
  };

  Router* find(RouterId link);

  std::map<std::string, Router> routers_;  // by address
  std::uint64_t choices_ = 0;
};

}  // namespace conclave::gateway
