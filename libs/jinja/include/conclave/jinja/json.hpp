// JSON into template values and back. Key order is kept, because templates print schemas.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

/// kInvalidArgument if the document nests deeper than kValueDepthMax. As in JavaScript a number
/// without a fraction is an integer however it was written (1.0 is 1); integers that do not fit 64
/// bits become floats.
base::Result<Value> from_json(const boost::json::value& json);

/// As above, from text: kInvalidArgument also if it is not JSON.
base::Result<Value> parse_json(std::string_view text);

}  // namespace conclave::jinja
