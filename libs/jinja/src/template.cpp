#include "conclave/jinja/template.hpp"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "ast.hpp"
#include "conclave/base/utf8.hpp"
#include "interpreter.hpp"
#include "parser.hpp"

namespace conclave::jinja {
namespace {

/// Finds loops over an attribute, or over variables that hold it.
class LoopFinder {
 public:
  explicit LoopFinder(std::string_view name) : names_{std::string(name)} {}

  bool search(const Block& body) {
    for_each_statement(body, [this](const Statement& statement) {
      if (const auto* loop = std::get_if<ForStatement>(&statement.node)) {
        found_ = found_ || refers(*loop->iterable);
      } else if (const auto* set = std::get_if<SetStatement>(&statement.node)) {
        const auto* target = std::get_if<NameNode>(&set->target->node);
        const bool alias = target != nullptr && set->value != nullptr && refers(*set->value);
        if (alias) names_.push_back(target->name);
      }
    });
    return found_;
  }

 private:
  [[nodiscard]] bool known(const std::string& name) const {
    return std::find(names_.begin(), names_.end(), name) != names_.end();
  }

  /// True for `name`, `x.name`, `x['name']`, and filters and slices of them.
  [[nodiscard]] bool refers(const Expression& expression) const {
    if (const auto* filter = std::get_if<FilterNode>(&expression.node)) {
      return refers(*filter->operand);
    }
    if (const auto* slice = std::get_if<SliceNode>(&expression.node)) {
      return refers(*slice->object);
    }
    if (const auto* name = std::get_if<NameNode>(&expression.node)) return known(name->name);
    const auto* member = std::get_if<MemberNode>(&expression.node);
    if (member == nullptr) return false;
    const auto* key = std::get_if<LiteralNode>(&member->key->node);
    return key != nullptr && key->value.is_string() && key->value.as_string() == names_.front();
  }

  std::vector<std::string> names_;  // the attribute first, then its aliases
  bool found_ = false;
};

}  // namespace

base::Result<Template> Template::parse(std::string_view source) {
  if (source.size() > kSourceBytesMax) {
    return base::fail(base::ErrorCode::kInvalidArgument, "1:1: the template is too long");
  }
  CONCLAVE_TRY(std::shared_ptr<const Program> program, parse_program(base::utf8::sanitize(source)));
  return Template(std::move(program));
}

base::Result<std::string> Template::render(const Value& context,
                                           const RenderOptions& options) const {
  if (!context.is_object()) {
    return base::fail(base::ErrorCode::kFailedPrecondition, "1:1: the context is not a dict");
  }
  return Interpreter(*program_, options).run(context.as_object());
}

bool Template::iterates_attribute(std::string_view name) const {
  return LoopFinder(name).search(program_->body);
}

}  // namespace conclave::jinja
