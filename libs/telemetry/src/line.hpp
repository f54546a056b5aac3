// The words of a log line: fields as JSON members or as key=value.
#pragma once

#include <string>
#include <string_view>

#include "conclave/telemetry/log.hpp"

namespace conclave::telemetry {

/// `,"key":value` for each field, cut and repaired as log.hpp promises.
void append_json_fields(std::string& line, LogFields fields);

/// ` key=value` for each field; text that could be mistaken for more is quoted.
void append_text_fields(std::string& line, LogFields fields);

/// `text` as a JSON string in its quotation marks.
void append_quoted(std::string& line, std::string_view text);

/// `text` as it is if it is one word, or else quoted.
void append_word(std::string& line, std::string_view text);

}  // namespace conclave::telemetry
