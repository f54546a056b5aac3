// Any bytes as a template, rendered against one rich context: must end within its limits.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "conclave/base/check.hpp"
#include "conclave/jinja/json.hpp"
#include "conclave/jinja/template.hpp"

namespace {

using conclave::jinja::RenderOptions;
using conclave::jinja::Template;
using conclave::jinja::Value;

constexpr std::string_view kContext = R"({
  "messages": [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "  höflich 日本 😀\n\n"},
    {"role": "assistant", "content": null, "reasoning_content": "why", "tool_calls": [
      {"id": "abc123def", "type": "function",
       "function": {"name": "f", "arguments": {"x": 1, "y": [true, null, 1.5]}}}]},
    {"role": "tool", "tool_call_id": "abc123def", "content": "{}"},
    {"role": "user", "content": [{"type": "text", "text": "part"}]}
  ],
  "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"x": {"type": "integer", "enum": [1, 2]}}, "required": ["x"]}}}],
  "people": [{"name": "Ann", "age": 41}, {"name": "bob", "age": 30}],
  "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true,
  "n": -9223372036854775808, "f": 1e300, "s": "a,b,,c", "e": {}, "l": [3, 1, 2], "t": "\u0000\u2028"
})";

RenderOptions small_limits() {
  RenderOptions options;
  options.output_bytes_max = 1 << 16;
  options.steps_max = 50'000;
  options.memory_bytes_max = 1 << 20;
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Value context = conclave::jinja::parse_json(kContext).value();
  static const RenderOptions options = small_limits();
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = Template::parse(source);
  if (!parsed) return 0;
  const auto first = parsed->render(context, options);
  const auto second = parsed->render(context, options);
  CONCLAVE_CHECK(first.has_value() == second.has_value());
  if (first) CONCLAVE_CHECK(*first == *second && first->size() <= options.output_bytes_max);
  if (!first) CONCLAVE_CHECK(first.error() == second.error());
  return 0;
}
