// The half of the interpreter that runs statements.
#include <algorithm>
#include <utility>

#include "builtins.hpp"
#include "interpreter.hpp"
#include "namespace.hpp"
#include "operators.hpp"
#include "text.hpp"

namespace conclave::jinja {

using base::ErrorCode;
using base::Result;
using base::Status;

Result<Interpreter::Flow> Interpreter::execute(const Block& block, const EnvironmentPtr& scope,
                                               std::string& out) {
  if (depth_ >= options_.depth_max) {
    return base::fail(ErrorCode::kOverloaded, "the template recurses too deeply");
  }
  ++depth_;
  for (const Statement& statement : block) {
    CONCLAVE_TRY_VOID(budget_.step());
    Result<Flow> flow =
        std::visit([&](const auto& node) { return exec(node, scope, out); }, statement.node);
    if (!flow) locate(flow.error(), statement.offset);
    if (!flow || *flow != Flow::kNext) {
      --depth_;
      return flow;
    }
  }
  --depth_;
  return Flow::kNext;
}

Result<Value> Interpreter::execute_to_text(const Block& block, const EnvironmentPtr& scope) {
  std::string text;
  CONCLAVE_TRY(const Flow flow, execute(block, scope, text));
  if (flow != Flow::kNext) return broken("a break or continue outside of a loop");
  return Value(std::move(text));
}

Result<Interpreter::Flow> Interpreter::exec(const TextStatement& node, const EnvironmentPtr&,
                                            std::string& out) {
  CONCLAVE_TRY_VOID(sink(out).append(node.text));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const OutputStatement& node,
                                            const EnvironmentPtr& scope, std::string& out) {
  CONCLAVE_TRY(const Value value, evaluate(*node.value, scope));
  CONCLAVE_TRY_VOID(print(sink(out), value));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const IfStatement& node, const EnvironmentPtr& scope,
                                            std::string& out) {
  for (const IfStatement::Branch& branch : node.branches) {
    if (branch.condition != nullptr) {
      CONCLAVE_TRY(const Value condition, evaluate(*branch.condition, scope));
      if (!condition.truthy()) continue;
    }
    return execute(branch.body, scope, out);
  }
  return Flow::kNext;
}

Status Interpreter::bind_loop_targets(const ForStatement& node, const Value& item,
                                      const EnvironmentPtr& scope) {
  if (!node.unpacks) {
    scope->set(node.targets[0], item);
    return {};
  }
  if (!item.is_array()) return broken(concat({"cannot unpack ", type_name(item)}));
  if (item.as_array().size() != node.targets.size()) {
    return broken(concat({"cannot unpack ", std::to_string(item.as_array().size()), " values into ",
                          std::to_string(node.targets.size()), " variables"}));
  }
  for (std::size_t i = 0; i < node.targets.size(); ++i) {
    scope->set(node.targets[i], item.as_array()[i]);
  }
  return {};
}

Result<Array> Interpreter::loop_items(const ForStatement& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value iterable, evaluate(*node.iterable, scope));
  Array items;
  if (iterable.is_array()) {
    items = iterable.as_array();
  } else if (iterable.is_object()) {
    for (const auto& [key, value] : iterable.as_object().entries()) items.emplace_back(key);
  } else {
    return broken(concat({"cannot loop over ", type_name(iterable)}));
  }
  CONCLAVE_TRY_VOID(budget_.allocate(items.size() * sizeof(Value)));
  if (node.condition == nullptr) return items;

  Array kept;
  for (Value& item : items) {
    const auto item_scope = std::make_shared<Environment>(scope);
    CONCLAVE_TRY_VOID(bind_loop_targets(node, item, item_scope));
    CONCLAVE_TRY(const Value keep, evaluate(*node.condition, item_scope));
    if (keep.truthy()) kept.push_back(std::move(item));
  }
  return kept;
}

namespace {

// A scope, and a dict of nine entries with their keys.
constexpr std::size_t kIterationBytes = 1024;

Value loop_variable(const Array& items, std::size_t index) {
  const std::size_t count = items.size();
  Object loop;
  loop.set("index", index + 1);
  loop.set("index0", index);
  loop.set("revindex", count - index);
  loop.set("revindex0", count - index - 1);
  loop.set("first", index == 0);
  loop.set("last", index + 1 == count);
  loop.set("length", count);
  loop.set("previtem", index > 0 ? items[index - 1] : Value());
  loop.set("nextitem", index + 1 < count ? items[index + 1] : Value());
  return loop;
}

}  // namespace

Result<Interpreter::Flow> Interpreter::exec(const ForStatement& node, const EnvironmentPtr& outer,
                                            std::string& out) {
  const auto scope = std::make_shared<Environment>(outer);
  CONCLAVE_TRY(const Array items, loop_items(node, scope));
  bool completed = false;
  for (std::size_t i = 0; i < items.size(); ++i) {
    CONCLAVE_TRY_VOID(budget_.allocate(kIterationBytes));
    // As in Python, what one iteration sets is gone in the next.
    const auto iteration = std::make_shared<Environment>(scope);
    iteration->set("loop", loop_variable(items, i));
    CONCLAVE_TRY_VOID(bind_loop_targets(node, items[i], iteration));
    CONCLAVE_TRY(const Flow flow, execute(node.body, iteration, out));
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNext;
  }
  // As in Python, "no iteration" means that none ran to its end.
  if (!completed) return execute(node.otherwise, scope, out);
  return Flow::kNext;
}

Status Interpreter::assign(const Expression& target, const Value& value,
                           const EnvironmentPtr& scope) {
  if (const auto* name = std::get_if<NameNode>(&target.node)) {
    scope->set(name->name, value);
    return {};
  }
  if (const auto* list = std::get_if<ListNode>(&target.node); list != nullptr && list->tuple) {
    if (!value.is_array()) return broken(concat({"cannot unpack ", type_name(value)}));
    if (value.as_array().size() != list->items.size()) {
      return broken(concat({"cannot unpack ", std::to_string(value.as_array().size()),
                            " values into ", std::to_string(list->items.size()), " variables"}));
    }
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      const auto* name = std::get_if<NameNode>(&list->items[i]->node);
      if (name == nullptr) return broken("only names can be unpacked into");
      scope->set(name->name, value.as_array()[i]);
    }
    return {};
  }
  const auto* member = std::get_if<MemberNode>(&target.node);
  if (member == nullptr) return broken("cannot assign to this expression");
  CONCLAVE_TRY(const Value object, evaluate(*member->object, scope));
  if (!object.is_namespace()) {
    return broken(concat({"cannot set an attribute of ", type_name(object)}));
  }
  const auto* key = std::get_if<LiteralNode>(&member->key->node);
  const bool named = member->dotted && key != nullptr && key->value.is_string();
  if (!named) return broken("the attribute needs a name");
  CONCLAVE_TRY_VOID(budget_.allocate(key->value.as_string().size()));
  object.as_namespace().entries.set(key->value.as_string(), value);
  return {};
}

Result<Interpreter::Flow> Interpreter::exec(const SetStatement& node, const EnvironmentPtr& scope,
                                            std::string&) {
  Value value;
  if (node.value != nullptr) {
    CONCLAVE_TRY(value, evaluate(*node.value, scope));
  } else {
    std::string text;
    CONCLAVE_TRY(const Flow flow, execute(node.body, scope, text));
    if (flow != Flow::kNext) return flow;
    value = Value(std::move(text));
  }
  CONCLAVE_TRY_VOID(assign(*node.target, value, scope));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const MacroStatement& node, const EnvironmentPtr& scope,
                                            std::string&) {
  const MacroBody& macro = *node.macro;
  CONCLAVE_TRY_VOID(budget_.allocate(sizeof(Callable)));
  scope->set(macro.name,
             make_callable([&macro](Interpreter& interpreter, const EnvironmentPtr& call_scope,
                                    Arguments arguments) {
               return interpreter.call_macro(macro, call_scope, std::move(arguments));
             }));
  return Flow::kNext;
}

Result<Value> Interpreter::call_macro(const MacroBody& macro, const EnvironmentPtr& parent,
                                      Arguments arguments) {
  const auto scope = std::make_shared<Environment>(parent);
  CONCLAVE_TRY_VOID(bind_arguments(macro, scope, std::move(arguments)));
  return execute_to_text(macro.body, scope);
}

Status Interpreter::bind_arguments(const MacroBody& macro, const EnvironmentPtr& scope,
                                   Arguments arguments) {
  std::vector<const Parameter*> defaulted;
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    Value value;
    const auto keyword =
        std::find_if(arguments.keyword.begin(), arguments.keyword.end(),
                     [&](const auto& entry) { return entry.first == parameter.name; });
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (keyword != arguments.keyword.end()) {
      value = std::move(keyword->second);
      arguments.keyword.erase(keyword);
    } else if (parameter.default_value != nullptr) {
      defaulted.push_back(&parameter);
    }
    scope->set(parameter.name, std::move(value));
  }
  if (macro.reads_kwargs) {
    Object kwargs;
    for (auto& [name, value] : arguments.keyword) kwargs.set(name, std::move(value));
    CONCLAVE_TRY(Value value, make_object(std::move(kwargs)));
    scope->set("kwargs", std::move(value));
  } else if (!arguments.keyword.empty()) {
    return broken(
        concat({"macro '", macro.name, "' has no parameter '", arguments.keyword[0].first, "'"}));
  }
  const std::size_t taken = std::min(arguments.positional.size(), macro.parameters.size());
  if (macro.reads_varargs) {
    CONCLAVE_TRY(Value value,
                 make_list(Array(arguments.positional.begin() + static_cast<std::ptrdiff_t>(taken),
                                 arguments.positional.end())));
    scope->set("varargs", std::move(value));
  } else if (arguments.positional.size() > taken) {
    return broken(
        concat({"macro '", macro.name, "' takes at most ", std::to_string(taken), " arguments"}));
  }
  for (const Parameter* parameter : defaulted) {
    CONCLAVE_TRY(Value value, evaluate(*parameter->default_value, scope));
    scope->set(parameter->name, std::move(value));
  }
  return {};
}

Result<Interpreter::Flow> Interpreter::exec(const CallStatement& node, const EnvironmentPtr& scope,
                                            std::string& out) {
  const MacroBody& body = *node.caller;
  CONCLAVE_TRY_VOID(budget_.allocate(sizeof(Callable)));
  // Weak: a namespace may keep `caller` longer than the block it belongs to.
  const std::weak_ptr<Environment> block_scope = scope;
  const auto call_scope = std::make_shared<Environment>(scope);
  call_scope->set(
      "caller", make_callable([&body, block_scope](Interpreter& interpreter, const EnvironmentPtr&,
                                                   Arguments arguments) {
        const EnvironmentPtr parent = block_scope.lock();
        if (parent == nullptr) return Result<Value>(broken("caller() after its block"));
        return interpreter.call_macro(body, parent, std::move(arguments));
      }));
  const auto& call = std::get<CallNode>(node.call->node);
  CONCLAVE_TRY(Arguments arguments, evaluate_arguments(call.arguments, scope));
  CONCLAVE_TRY(const Value callee, evaluate(*call.callee, scope));
  if (!callee.is_callable()) {
    return broken(concat({"cannot call ", type_name(callee), " as a function"}));
  }
  CONCLAVE_TRY(const Value value,
               callee.as_callable().call(*this, call_scope, std::move(arguments)));
  CONCLAVE_TRY_VOID(print(sink(out), value));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const FilterStatement& node,
                                            const EnvironmentPtr& scope, std::string& out) {
  std::string text;
  CONCLAVE_TRY(const Flow flow, execute(node.body, scope, text));
  if (flow != Flow::kNext) return flow;
  CONCLAVE_TRY(const Value value, apply_filter(node.filter, Value(std::move(text)), scope));
  CONCLAVE_TRY_VOID(print(sink(out), value));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const BreakStatement&, const EnvironmentPtr&,
                                            std::string&) {
  return Flow::kBreak;
}

Result<Interpreter::Flow> Interpreter::exec(const ContinueStatement&, const EnvironmentPtr&,
                                            std::string&) {
  return Flow::kContinue;
}

}  // namespace conclave::jinja
