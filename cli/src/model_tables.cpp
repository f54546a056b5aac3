// Records of the registry as tables have them.
#include <cstdint>
#include <string>
#include <utility>

#include "admin_text.hpp"
#include "models.hpp"

namespace conclave::cli {

namespace json = boost::json;

namespace {

std::uint64_t number(const json::value& record, const char* member) {
  const json::object* object = record.if_object();
  const json::value* found = object == nullptr ? nullptr : object->if_contains(member);
  boost::system::error_code error;
  return found == nullptr ? 0 : found->to_number<std::uint64_t>(error);
}

}  // namespace

json::value for_people(json::value record) {
  if (!record.is_object()) return record;
  json::object& object = record.get_object();
  if (object.contains("bytes")) object["size_text"] = human_bytes(number(record, "bytes"));
  for (const std::string time : {"created", "published", "archived", "expires", "revoked", "at"}) {
    const auto at = static_cast<std::int64_t>(number(record, (time + "_unix_ms").c_str()));
    object[time + "_text"] = time_text(at);
  }
  if (object.contains("device_us")) {
    object["device_text"] = fixed(static_cast<double>(number(record, "device_us")) / 1e6, 1);
  }
  object["sha256_text"] = cell(record, "/sha256").substr(0, 12);
  std::string text;
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (const json::value* aliases = object.if_contains("aliases"); aliases && aliases->is_object()) {
    for (const auto& [name, version] : aliases->get_object()) {
      add(std::string(name) + "=" + json::serialize(version));
    }
    object["aliases_text"] = text;
  }
  text.clear();
  if (const json::value* split = object.if_contains("split"); split && split->is_array()) {
    for (const json::value& part : split->get_array()) {
      add(cell(part, "/reference") + "=" + cell(part, "/weight"));
    }
    object["split_text"] = text;
  }
  text.clear();
  if (const json::value* pins = object.if_contains("pins"); pins && pins->is_array()) {
    for (const json::value& pin : pins->get_array()) add(json::serialize(pin));
    object["pins_text"] = text;
  }
  return record;
}

void print_all(json::array records, const std::vector<Column>& columns, OutputFormat format,
               bool stale) {
  if (format == OutputFormat::kTable) {
    for (json::value& record : records) record = for_people(std::move(record));
  }
  print_records(records, columns, format, stale);
}

void print_one(const AdminAnswer& answer, const std::vector<Column>& rows, OutputFormat format) {
  const bool table = format == OutputFormat::kTable;
  print_record(table ? for_people(answer.body) : answer.body, rows, format, answer.stale);
}

}  // namespace conclave::cli
