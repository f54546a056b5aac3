// Variables in nested scopes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "callable.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

class Environment {
 public:
  explicit Environment(EnvironmentPtr parent = nullptr) : parent_(std::move(parent)) {}

  /// `name` must outlive the environment: it points into the tree or the context.
  void set(std::string_view name, Value value) {
    variables_.insert_or_assign(name, std::move(value));
  }

  [[nodiscard]] bool contains(std::string_view name) const { return variables_.contains(name); }

  /// Undefined if no scope has it.
  [[nodiscard]] Value lookup(std::string_view name) const {
    for (const Environment* scope = this; scope != nullptr; scope = scope->parent_.get()) {
      const auto found = scope->variables_.find(name);
      if (found != scope->variables_.end()) return found->second;
    }
    return {};
  }

 private:
  EnvironmentPtr parent_;
  std::map<std::string_view, Value> variables_;
};

}  // namespace conclave::jinja
