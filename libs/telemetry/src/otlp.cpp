#include "otlp.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <map>

#include "conclave/base/text.hpp"

namespace conclave::telemetry {

namespace json = boost::json;

namespace {

constexpr int kStatusError = 2;  // OTLP's

template <std::size_t N>
std::string hex(const std::array<std::uint8_t, N>& bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

json::object value_of(const Span::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return {{"stringValue", base::printable(*text)}};
  }
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    return {{"intValue", std::to_string(*number)}};
  }
  if (const auto* number = std::get_if<double>(&value)) return {{"doubleValue", *number}};
  return {{"boolValue", std::get<bool>(value)}};
}

json::object attribute(std::string_view key, const Span::Value& value) {
  return {{"key", key}, {"value", value_of(value)}};
}

json::object span_of(const Recorded& recorded) {
  const Span& span = recorded.span;
  json::object made{{"traceId", hex(span.context.trace_id)},
                    {"spanId", hex(span.context.span_id)},
                    {"name", span.name},
                    {"kind", static_cast<int>(span.kind)},
                    {"startTimeUnixNano", std::to_string(recorded.begin_unix_ns)},
                    {"endTimeUnixNano", std::to_string(recorded.end_unix_ns)}};
  if (span.parent_id != std::array<std::uint8_t, 8>{}) made["parentSpanId"] = hex(span.parent_id);
  json::array& attributes = made["attributes"].emplace_array();
  for (const auto& [key, value] : span.attributes) attributes.push_back(attribute(key, value));
  if (!span.error.empty()) {
    made["status"] = {{"code", kStatusError}, {"message", base::printable(span.error)}};
  }
  return made;
}

}  // namespace

std::string otlp_json(std::span<const Recorded> spans, const std::string& node,
                      const std::string& version) {
  std::map<std::string, json::array> by_service;
  for (const Recorded& recorded : spans) by_service[*recorded.service].push_back(span_of(recorded));
  json::array resources;
  for (auto& [service, own] : by_service) {
    json::array attributes{attribute("service.name", "conclave-" + service),
                           attribute("service.instance.id", node),
                           attribute("service.version", version)};
    json::array scopes{json::object{{"scope", {{"name", "conclave"}}}, {"spans", std::move(own)}}};
    resources.push_back(json::object{{"resource", {{"attributes", std::move(attributes)}}},
                                     {"scopeSpans", std::move(scopes)}});
  }
  return json::serialize(json::object{{"resourceSpans", std::move(resources)}});
}

}  // namespace conclave::telemetry
