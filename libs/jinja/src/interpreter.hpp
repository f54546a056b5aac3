// Walks the tree of one template for one rendering. Single-threaded; made and dropped by render().
#pragma once

#include <string>
#include <vector>

#include "ast.hpp"
#include "budget.hpp"
#include "callable.hpp"
#include "conclave/base/result.hpp"
#include "conclave/jinja/template.hpp"
#include "conclave/jinja/value.hpp"
#include "environment.hpp"
#include "print.hpp"

namespace conclave::jinja {

class Interpreter {
 public:
  Interpreter(const Program& program, const RenderOptions& options);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  base::Result<std::string> run(const Object& context);

  // For the built-in functions: everything they make goes through here, so it is counted.
  [[nodiscard]] Budget& budget() { return budget_; }
  [[nodiscard]] const RenderOptions& options() const { return options_; }
  base::Result<Value> make_text(std::string text);
  base::Result<Value> make_list(Array items);
  base::Result<Value> make_tuple(Array items);
  base::Result<Value> make_object(Object object);
  Value make_namespace(Object entries);

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

  base::Result<Value> evaluate(const Expression& expression, const EnvironmentPtr& scope);
  base::Result<Flow> execute(const Block& block, const EnvironmentPtr& scope, std::string& out);
  /// For macro bodies, where a break has nothing to break.
  base::Result<Value> execute_to_text(const Block& block, const EnvironmentPtr& scope);

  base::Result<Value> eval(const LiteralNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const NameNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const ListNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const DictNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const UnaryNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const BinaryNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const MemberNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const SliceNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const CallNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const FilterNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const TestNode& node, const EnvironmentPtr& scope);
  base::Result<Value> eval(const ConditionalNode& node, const EnvironmentPtr& scope);

  base::Result<Flow> exec(const TextStatement& node, const EnvironmentPtr& scope, std::string& out);
  base::Result<Flow> exec(const OutputStatement& node, const EnvironmentPtr& scope,
                          std::string& out);
  base::Result<Flow> exec(const IfStatement& node, const EnvironmentPtr& scope, std::string& out);
  base::Result<Flow> exec(const ForStatement& node, const EnvironmentPtr& scope, std::string& out);
  base::Result<Flow> exec(const SetStatement& node, const EnvironmentPtr& scope, std::string& out);
  base::Result<Flow> exec(const MacroStatement& node, const EnvironmentPtr& scope,
                          std::string& out);
  base::Result<Flow> exec(const CallStatement& node, const EnvironmentPtr& scope, std::string& out);
  base::Result<Flow> exec(const FilterStatement& node, const EnvironmentPtr& scope,
                          std::string& out);
  base::Result<Flow> exec(const BreakStatement& node, const EnvironmentPtr& scope,
                          std::string& out);
  base::Result<Flow> exec(const ContinueStatement& node, const EnvironmentPtr& scope,
                          std::string& out);

  base::Result<Arguments> evaluate_arguments(const std::vector<Argument>& arguments,
                                             const EnvironmentPtr& scope);
  base::Result<Value> apply_filter(const Modifier& filter, const Value& operand,
                                   const EnvironmentPtr& scope);
  base::Result<Value> call_macro(const MacroBody& macro, const EnvironmentPtr& parent,
                                 Arguments arguments);
  base::Status bind_arguments(const MacroBody& macro, const EnvironmentPtr& scope,
                              Arguments arguments);
  base::Status assign(const Expression& target, const Value& value, const EnvironmentPtr& scope);
  base::Status bind_loop_targets(const ForStatement& node, const Value& item,
                                 const EnvironmentPtr& scope);
  base::Result<Array> loop_items(const ForStatement& node, const EnvironmentPtr& scope);

  [[nodiscard]] TextSink sink(std::string& out) {
    return {out, options_.output_bytes_max, budget_};
  }
  /// Puts the position before the message of an error, once.
  void locate(base::Error& error, std::uint32_t offset);
  base::Status check_depth(const Value& value) const;

  const Program& program_;
  const RenderOptions& options_;
  Budget budget_;
  std::size_t depth_ = 0;
  bool located_ = false;
  // Namespaces may form cycles; they are emptied when the rendering ends.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace conclave::jinja
