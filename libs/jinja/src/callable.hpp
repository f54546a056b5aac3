// Values that can be called: functions, bound methods, macros.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

class Interpreter;
class Environment;
using EnvironmentPtr = std::shared_ptr<Environment>;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;

  /// The positional argument `index`, else the keyword `name`, else nullptr.
  [[nodiscard]] const Value* find(std::size_t index, std::string_view name) const;
  [[nodiscard]] const Value* keyword_value(std::string_view name) const;
};

class Callable {
 public:
  /// `scope` is where the call stands: macros see its variables, as in the reference.
  using Function =
      std::function<base::Result<Value>(Interpreter&, const EnvironmentPtr& scope, Arguments)>;

  explicit Callable(Function function) : function_(std::move(function)) {}

  base::Result<Value> call(Interpreter& interpreter, const EnvironmentPtr& scope,
                           Arguments arguments) const {
    return function_(interpreter, scope, std::move(arguments));
  }

 private:
  Function function_;
};

inline Value make_callable(Callable::Function function) {
  return std::make_shared<const Callable>(std::move(function));
}

}  // namespace conclave::jinja
