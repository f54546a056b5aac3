#include "conclave/http/sse.hpp"

#include <utility>

namespace conclave::http {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

base::Result<std::vector<SseEvent>> SseParser::push(std::string_view chunk) {
  std::vector<SseEvent> events;
  while (!failed_ && !chunk.empty()) {
    if (std::exchange(after_carriage_return_, false) && chunk.front() == '\n') {
      chunk.remove_prefix(1);
      continue;
    }
    const auto end = chunk.find_first_of("\r\n");
    const auto part = chunk.substr(0, end);
    event_bytes_ += part.size();
    if (event_bytes_ > event_bytes_max_) {
      failed_ = true;
      break;
    }
    line_.append(part);
    if (end == std::string_view::npos) break;
    after_carriage_return_ = chunk[end] == '\r';
    chunk.remove_prefix(end + 1);
    take_line(events);
  }
  if (failed_) {
    return base::fail(
        base::ErrorCode::kCorruptData,
        "an event of the stream exceeds " + std::to_string(event_bytes_max_) + " bytes");
  }
  return events;
}

void SseParser::take_line(std::vector<SseEvent>& events) {
  std::string_view line = line_;
  if (std::exchange(first_line_, false) && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.empty()) {  // the event ends; one without data is none
    if (std::exchange(has_data_, false)) events.push_back(std::move(event_));
    event_ = {};
    event_bytes_ = 0;
    line_.clear();
    return;
  }
  if (line.front() == ':') event_bytes_ -= line_.size();  // any number of comments may come
  const auto colon = line.find(':');
  const auto field = line.substr(0, colon);
  std::string_view value;
  if (colon != std::string_view::npos) value = line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    if (std::exchange(has_data_, true)) event_.data.push_back('\n');
    event_.data.append(value);
  } else if (field == "event") {
    event_.type = value;
  }
  line_.clear();
}

void append_sse(std::string& out, std::string_view data, std::string_view type) {
  if (!type.empty()) out.append("event: ").append(type).append("\n");
  while (true) {
    const auto end = data.find_first_of("\r\n");
    out.append("data: ").append(data.substr(0, end)).append("\n");
    if (end == std::string_view::npos) break;
    const bool both = data.substr(end).starts_with("\r\n");
    data.remove_prefix(end + (both ? 2 : 1));
  }
  out.append("\n");
}

std::string sse_event(std::string_view data, std::string_view type) {
  std::string out;
  append_sse(out, data, type);
  return out;
}

}  // namespace conclave::http
