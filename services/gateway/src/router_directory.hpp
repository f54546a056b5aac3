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

/// What a sequence costs the others of its router, in tokens of prompts: so much of a prompt is
/// computed again rather than put beside one more sequence.
inline constexpr std::uint64_t kSequenceTokens = 256;

/// Tokens at the beginning of a prompt that a router has computed before.
struct KnownPrefix {
  RouterId router{};
  std::uint64_t tokens = 0;

  friend bool operator==(const KnownPrefix&, const KnownPrefix&) = default;
};

/// What a router is wanted for.
struct Wanted {
  std::string_view model;
  std::uint32_t version = 0;        // of the model; 0: any
  bool resumed = false;             // a version that is left will do: what runs of it goes on
  std::span<const RouterId> tried;  // not these
  std::uint64_t prompt_tokens = 0;  // about
  std::span<const KnownPrefix> known;
  std::uint64_t session = 0;  // equal ones like to stay together; 0: none
};

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

  /// The router for which a prompt is least work: tokens that it would have to compute, and
  /// kSequenceTokens for each sequence that it has, ours and, from its last report, those of other
  /// gateways; far more if its cache has no room. Of equals the session's own, else the longest
  /// unchosen one.
  [[nodiscard]] std::optional<RouterId> choose(const Wanted& wanted);
  void sequences_opened(RouterId link, std::size_t count);
  void sequences_closed(RouterId link, std::size_t count);
  /// It finishes what it has and goes.
  [[nodiscard]] bool draining(RouterId link) const;

  /// Routers that could be chosen now.
  [[nodiscard]] std::size_t usable(std::string_view model, std::uint32_t version = 0) const;
  /// `r1 is loading the model` or the like, of the first one that cannot be chosen, for people.
  [[nodiscard]] std::string why_not_usable(std::string_view model) const;

 private:
  struct Router {
    std::string node;
    std::vector<wire::HostedModel> models;  // that it has open
    std::string reason;                     // of the scheduler's list: why it is not ready
    bool ready = false;
    bool draining = false;
    bool listed = false;
    bool up = false;
    RouterId link{};
    std::size_t sequences = 0;  // ours
    std::uint64_t others = 0;   // sequences that it had beside ours when it reported
    std::uint64_t kv_tokens_left = 0;
    std::uint64_t chosen = 0;  // when, counted in choices

    [[nodiscard]] bool serves(std::string_view name, std::uint32_t version) const;
    [[nodiscard]] bool has(std::string_view name) const;
  };

  Router* find(RouterId link);
  [[nodiscard]] bool can_take(const Router& router, const Wanted& wanted) const;
  [[nodiscard]] static std::uint64_t cost(const Router& router, const Wanted& wanted);
  [[nodiscard]] const Router* home(const Wanted& wanted) const;

  std::map<std::string, Router> routers_;    // by address
  std::vector<wire::ModelVersion> leaving_;  // versions; every router has them open still
  std::uint64_t choices_ = 0;
};

}  // namespace conclave::gateway
