// Messages as clients send them into messages as templates expect them.
#pragma once

#include <boost/json/array.hpp>
#include <cstdint>

#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::chat {

/// What templates do with `content` differs; clients may send any of these shapes.
struct ContentRules {
  enum class Shape : std::uint8_t {
    kText,    // parts become one string, newlines between them
    kEither,  // strings and parts stay what they are
    kParts,   // a string becomes one part
  };
  Shape shape = Shape::kText;
  bool keep_null = true;  // false: "" instead
};

/// kInvalidArgument, with the place (`messages[2].content[0]: ..`), for shapes we do not know.
base::Result<jinja::Value> template_messages(const boost::json::array& messages,
                                             const ContentRules& rules);

}  // namespace conclave::chat
