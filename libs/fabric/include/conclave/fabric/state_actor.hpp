// A typed CAF 0.17 actor around a plain state object: constructor injection, a name, and a state
// that dies with the actor. CAF's own stateful_actor gives its state nothing but `self`.
#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <optional>
#include <utility>

namespace conclave::fabric {

/// State has `static constexpr const char* kName`, a constructor (Handle::pointer self, args...)
/// and make_behavior(). Spawn with `system.spawn<StateActor<Handle, State>>(args...)`.
template <class Handle, class State>
class StateActor final : public Handle::base {
 public:
  template <class... Args>
  explicit StateActor(caf::actor_config& config, Args&&... args) : Handle::base(config) {
    state_.emplace(this, std::forward<Args>(args)...);
  }

  const char* name() const override { return State::kName; }
  typename Handle::behavior_type make_behavior() override { return state_->make_behavior(); }
  void on_exit() override { state_.reset(); }

 private:
  std::optional<State> state_;
};

}  // namespace conclave::fabric
