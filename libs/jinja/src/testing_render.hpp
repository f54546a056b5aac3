// Renders in one line, for tests.
#pragma once

#include <string>
#include <string_view>

#include "conclave/jinja/json.hpp"
#include "conclave/jinja/template.hpp"

namespace conclave::jinja::testing {

/// The output, or `code: message`.
inline std::string render(std::string_view source, std::string_view context = "{}",
                          const RenderOptions& options = {}) {
  const auto parsed = Template::parse(source);
  if (!parsed) return parsed.error().to_string();
  const auto output = parsed->render(parse_json(context).value(), options);
  return output ? *output : output.error().to_string();
}

}  // namespace conclave::jinja::testing
