// Messages as clients send them into messages as templates expect them.
#pragma once

#include <boost/json/array.hpp>

#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::chat {

struct ContentRules {
  bool keep_parts = false;  // false: the texts of parts, joined by newlines
  bool keep_null = true;    // false: "" instead
};

/// kInvalidArgument, with the place (`messages[2].content[0]: ..`), for shapes we do not know.
base::Result<jinja::Value> template_messages(const boost::json::array& messages,
                                             const ContentRules& rules);

}  // namespace conclave::chat
